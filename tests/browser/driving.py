"""Drive Chromium as a person does, with the keyboard, and check pages with axe."""

from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web

LOOKS = [(390, "light"), (1280, "dark")]
"""Widths in pixels and colour schemes in which every page is checked: each width and each scheme once."""

PATIENCE = 30_000  # ms; a busy machine may need as long for a moment's work
MOST_TABS = 120

expect.set_options(timeout=PATIENCE)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the installed Chromium, and close it after the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, web: Web, address: str) -> Iterator[Page]:
    """Open a page of the service in a fresh context. Errors of its scripts and violations of its policy fail the test."""
    size: ViewportSize = {"width": 1280, "height": 900}
    context = browser.new_context(base_url=str(web.client.base_url), viewport=size, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    # A page that is left cancels its requests, which the browser and htmx report as failures to load and to send.
    cancelled = ("Failed to load resource", "htmx:send", "htmx:afterRequest")
    defects = [text for text in complaints if not any(name in text for name in cancelled)]
    assert not defects, "; ".join(defects)


def tab_to(page: Page, selector: str) -> None:
    """Move the focus with the Tab key to the element that matches."""
    for _ in range(MOST_TABS):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with the Tab key")


def submit(page: Page) -> None:
    """Send the form or follow the link with the Enter key, and wait until the next page is loaded."""
    with page.expect_navigation():
        page.keyboard.press("Enter")


def list_violations(page: Page) -> list[str]:
    """Return the findings of axe on the page as it is: rule and element."""
    found = Axe().run(page).response["violations"]
    nodes = [(rule["id"], " ".join(node["html"].split())) for rule in found for node in rule["nodes"]]
    return [f"{rule}: {html[:200]}" for rule, html in nodes]


def check_looks(page: Page) -> None:
    """Check that axe finds nothing and that no part is wider than the screen, in each of `LOOKS`."""
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert list_violations(page) == [], (page.url, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (page.url, width)
