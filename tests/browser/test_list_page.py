"""The list of jobs in a browser: axe finds nothing, and it is filtered and sorted with the keyboard alone."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driving import check_looks, open_page, submit, tab_to
from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def jobs(shared_web: Web) -> list[str]:
    """Return the ids of a waiting, a running and a finished audit."""
    model = shared_web.model("street signs with a long name")
    ids = [shared_web.audit(model, metadata={"ticket": f"ML-{number}"}) for number in range(3)]
    shared_web.run(ids[1])(stage="clean", total=90, done=30)
    shared_web.run(ids[2])
    shared_web.succeed(ids[2])
    return ids


@pytest.mark.parametrize("address", ["/", "/?search=signs&order=robust_worst", "/?search=nothing+like+this"])
def test_axe_finds_nothing_on_the_list(browser: Browser, shared_web: Web, jobs: list[str], address: str) -> None:
    """In light and dark, at 390 and 1280 pixels, the page has no finding of axe and is no wider than the screen."""
    with open_page(browser, shared_web, address) as page:
        check_looks(page)


def test_the_list_is_filtered_with_the_keyboard(browser: Browser, shared_web: Web, jobs: list[str]) -> None:
    """Tab, letters, arrows and Enter search the list and sort it, and the address keeps the filters."""
    with open_page(browser, shared_web, "/") as page:
        tab_to(page, "#search")
        page.keyboard.type("ml-2")
        submit(page)
        expect(page.locator("tbody th a")).to_have_count(1)
        assert "search=ml-2" in page.url
        tab_to(page, "#order")
        page.keyboard.type("Worst class, l")
        tab_to(page, ".filters button")
        submit(page)
        expect(page.locator("th[aria-sort=ascending]")).to_have_text("Worst class")
        expect(page.locator("#search")).to_have_value("ml-2")
        assert "order=robust_worst" in page.url


@pytest.mark.parametrize("address", ["/ui/webhooks", "/ui/models", "/ui/datasets"])
def test_axe_finds_nothing_on_the_other_lists(browser: Browser, shared_web: Web, address: str) -> None:
    """The other lists have no finding of axe either."""
    with open_page(browser, shared_web, address) as page:
        check_looks(page)


@pytest.mark.parametrize(("number", "page_name"), [(1, ""), (2, ""), (2, "/gate")])
def test_axe_finds_nothing_on_the_page_of_a_job(
    browser: Browser, shared_web: Web, jobs: list[str], number: int, page_name: str
) -> None:
    """The pages of a running and of a finished job, and the form of limits, have no finding of axe."""
    with open_page(browser, shared_web, f"/ui/jobs/{jobs[number]}{page_name}") as page:
        check_looks(page)
