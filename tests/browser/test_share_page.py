"""A report is shared in a browser with the keyboard alone."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driving import check_looks, open_page, submit, tab_to
from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def test_a_report_is_shared_with_the_keyboard(browser: Browser, shared_web: Web) -> None:
    """A link is made, copied, followed and revoked with the keyboard; axe has no finding on any of these pages."""
    job = shared_web.audit()
    shared_web.run(job)
    shared_web.succeed(job)
    with open_page(browser, shared_web, f"/ui/jobs/{job}") as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        tab_to(page, "a[href$='/share']")
        submit(page)
        check_looks(page)
        tab_to(page, "#expires_in")
        page.keyboard.press("ArrowDown")
        tab_to(page, "aside button")
        submit(page)
        expect(page.locator("#link")).to_be_focused()
        check_looks(page)
        url = page.input_value("#link")
        tab_to(page, "[data-copies]")
        page.keyboard.press("Enter")
        expect(page.locator("#copy-status")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == url
        tab_to(page, "td button")
        submit(page)
        expect(page.locator(".empty")).to_have_text("There is no valid link to this report.")
    with open_page(browser, shared_web, url.removeprefix(str(shared_web.client.base_url))) as page:
        expect(page.locator("h1")).to_have_text("Link not found")
        check_looks(page)
