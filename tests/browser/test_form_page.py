"""The form that starts a job, in a browser: it follows the chosen model, shows an estimate, and leads to the wrong field."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driving import check_looks, open_page, submit, tab_to
from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web
from tests.service.api.test_start_form import add_dataset, add_model

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def test_axe_finds_nothing_on_the_empty_list(browser: Browser, own_web: Web) -> None:
    """The page of a new site, with its button to try the bundled model, has no finding, and the button can be reached."""
    with open_page(browser, own_web, "/") as page:
        check_looks(page)
        tab_to(page, "form[action='/ui/models/bundled'] button")
        submit(page)
        expect(page.locator("h1")).to_have_text("bundled classifier")


def test_a_job_is_started_with_the_keyboard(browser: Browser, shared_web: Web) -> None:
    """The chosen model decides which data sets are offered; the estimate follows; a wrong radius gets focus and reason."""
    add_model(shared_web, "grey digits", num_classes=10)
    add_model(shared_web, "red or green", num_classes=2, mean=[0.5] * 3, std=[0.5] * 3)
    dataset = add_dataset(shared_web, "lights", [3, 8, 8], ["red", "green"], train=50, test=50)
    with open_page(browser, shared_web, "/") as page:
        estimate, options = page.locator("#estimate"), page.locator("#dataset option:not([disabled])")
        expect(estimate).to_have_text("Choose a model to see an estimate.")
        tab_to(page, "[name=kind]:checked")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        tab_to(page, "#model")
        page.keyboard.type("red or")
        expect(options).to_have_text(["lights"])
        expect(estimate).to_have_text(re.compile("passes through the network|at the pace of"))
        tab_to(page, "#epsilon")
        page.keyboard.type("8/0")
        submit(page)
        expect(page.locator("#epsilon")).to_be_focused()
        expect(page.locator("#epsilon")).to_have_accessible_description(re.compile("^'8/0' is not a radius"))
        check_looks(page)
        page.keyboard.press("Control+A")
        page.keyboard.type("0.1")
        submit(page)
        expect(page.locator("h1")).to_have_text("red or green")
        job = page.url.rpartition("/")[2]
    assert shared_web.client.get(f"/jobs/{job}").json()["dataset"] == dataset
