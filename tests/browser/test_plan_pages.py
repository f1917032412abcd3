"""The pages of plans in a browser: axe finds nothing, the keyboard reaches all, and refreshes do not move the focus."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.driving import check_looks, open_page, submit, tab_to
from tests.browser.layout import CHROMIUM
from tests.browser.test_refreshes import assert_focus_kept, keep_focus
from tests.service.api.conftest import Web
from tests.service.api.test_plan_pages import GOOD, WORSE, finish_audit, finish_run

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def count_hidden_parts(page: Page) -> int:
    """Return how many tables and charts a phone cuts."""
    page.set_viewport_size({"width": 390, "height": 900})
    parts = page.locator(".wide > table, .curves svg")
    return int(parts.evaluate_all("parts => parts.filter(part => part.getBoundingClientRect().right > 390).length"))


def test_a_plan_is_created_from_an_audit_and_followed_with_the_keyboard(browser: Browser, shared_web: Web) -> None:
    """A plan repeats a finished audit, its page and the list follow its runs, and it is paused and deleted."""
    audit = finish_audit(shared_web, "road markings")
    with open_page(browser, shared_web, "/ui/plans") as page:
        expect(page.locator(".empty")).to_contain_text("A plan repeats an audit")
        check_looks(page)
        page.goto(f"/ui/jobs/{audit}")
        tab_to(page, "a[href^='/ui/plans/new']")
        submit(page)
        tab_to(page, "#policy")
        page.keyboard.type("min_worst: 2")
        tab_to(page, "form.card button")
        submit(page)
        expect(page.locator("#policy")).to_be_focused()
        check_looks(page)
        page.keyboard.press("Control+End")
        page.keyboard.press("Backspace")
        page.keyboard.type("0.6")
        tab_to(page, "form.card button")
        submit(page)
        address = page.url.removeprefix(str(shared_web.client.base_url).rstrip("/"))
        plan_id = address.rpartition("/")[2]
        expect(page.locator(f"#state-{plan_id}")).to_contain_text("audit queued")
        tab_to(page, "#pause")
        keep_focus(page)
        finish_run(shared_web, plan_id, GOOD)
        expect(page.locator("#plan-runs")).to_contain_text("the baseline")
        assert_focus_kept(page)
        expect(page.locator("[hx-trigger^=every]")).to_have_count(0)
        assert_focus_kept(page)
        tab_to(page, "#run")
        submit(page)
        page.goto("/ui/plans")
        tab_to(page, f"a[href='{address}']")
        keep_focus(page)
        finish_run(shared_web, plan_id, WORSE)
        expect(page.locator(f"#falls-{plan_id}")).to_contain_text("accuracies fell")
        assert_focus_kept(page)
        expect(page.locator("[hx-trigger^=every]")).to_have_count(0)
        check_looks(page)
        submit(page)
        check_looks(page)
        assert count_hidden_parts(page) == 0
        tab_to(page, "#pause")
        submit(page)
        expect(page.locator(f"#state-{plan_id}")).to_contain_text("paused")
        tab_to(page, "#plan-actions summary")
        page.keyboard.press("Enter")
        tab_to(page, "#plan-actions details button")
        submit(page)
        expect(page.locator(".empty")).to_contain_text("There is no plan yet.")
