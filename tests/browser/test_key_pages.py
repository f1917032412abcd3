"""The pages of keys and webhooks in a browser: used with the keyboard alone, without findings of axe."""

import pytest
from playwright.sync_api import Browser, expect

from faal_client.vocabulary import Scope
from tests.browser.driving import check_looks, open_page, submit, tab_to
from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def test_a_key_and_a_webhook_are_created_with_the_keyboard(browser: Browser, own_web: Web) -> None:
    """An administrator signs in, creates a key that is shown once, and corrects the address of a webhook."""
    key = own_web.key("root", *Scope)["Authorization"].removeprefix("Bearer ")
    with open_page(browser, own_web, "/ui/keys") as page:
        tab_to(page, "#key")
        page.keyboard.type(key)
        submit(page)
        tab_to(page, "#owner")
        page.keyboard.type("vision team")
        tab_to(page, "#name")
        page.keyboard.type("nightly")
        submit(page)
        expect(page.locator("#owner")).to_be_focused()
        check_looks(page)
        page.keyboard.press("Control+A")
        page.keyboard.type("vision-team")
        submit(page)
        expect(page.get_by_label("Key of vision-team")).to_be_focused()
        check_looks(page)
        tab_to(page, "a[href='/ui/webhooks']")
        submit(page)
        tab_to(page, "#url")
        page.keyboard.type("https://10.0.0.1/")
        submit(page)
        expect(page.locator("#url")).to_be_focused()
        check_looks(page)
        page.keyboard.press("Control+A")
        page.keyboard.type("https://example.com/faal")
        submit(page)
        expect(page.locator("tbody th")).to_have_text("https://example.com/faal")
        check_looks(page)
