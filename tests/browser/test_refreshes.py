"""Parts of a page refresh themselves without moving the keyboard focus, and only while a job waits or runs."""

import pytest
from playwright.sync_api import Browser, Page, expect

from jobs import dataset_registry, lifecycle
from tests.browser.driving import open_page, tab_to
from tests.browser.layout import CHROMIUM
from tests.service.api.conftest import Web

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def keep_focus(page: Page) -> None:
    """Remember the focused element."""
    page.evaluate("window.kept = document.activeElement")


def assert_focus_kept(page: Page) -> None:
    """Check that the same element, which was never removed from the page, has the focus."""
    assert page.evaluate("window.kept.isConnected && window.kept === document.activeElement")


def test_the_list_keeps_the_focus_and_ends_its_polling(browser: Browser, shared_web: Web) -> None:
    """A link of the list keeps the focus while the state beside it changes; once the job has ended, nothing polls."""
    job = shared_web.audit(shared_web.model("watched"))
    with open_page(browser, shared_web, "/?search=watched") as page:
        tab_to(page, f"a[href='/ui/jobs/{job}']")
        keep_focus(page)
        shared_web.run(job)(stage="clean", total=90, done=30)
        state = page.locator(f"#state-{job}")
        expect(state).to_contain_text("running")
        assert_focus_kept(page)
        shared_web.succeed(job)
        expect(state).to_contain_text("succeeded")
        assert_focus_kept(page)
        assert page.locator("[hx-trigger^=every]").count() == 0


def test_the_page_of_a_job_keeps_the_focus(browser: Browser, shared_web: Web) -> None:
    """The button to cancel keeps the focus while the progress beside it and the table of attacks below it change."""
    job = shared_web.audit()
    record = shared_web.run(job)
    attack = {"stage": "attack", "name": "PGD-20", "tried": 9, "broken": 1, "seconds": 2}
    with open_page(browser, shared_web, f"/ui/jobs/{job}") as page:
        tab_to(page, "#cancel")
        keep_focus(page)
        for done in (30, 60):
            record(stage="clean", total=90, done=done, event=("attack", attack))
            expect(page.locator("#stage")).to_contain_text(f"{done} of 90 images")
            assert_focus_kept(page)
        expect(page.locator("#results tbody tr")).to_have_count(2)
        shared_web.succeed(job)
        expect(page.locator("#results")).to_contain_text("Robust, worst class")
        assert page.locator("[hx-trigger^=every]").count() == 0


def test_a_data_set_that_is_checked_leaves_the_focus_on_another(browser: Browser, shared_web: Web) -> None:
    """The list of data sets keeps the focus, and an opened part stays open, while another data set becomes ready."""
    ids = []
    summary = {"shape": [1, 28, 28], "class_names": ["a", "b"], "images": {"test": 9}}
    for name in ("older", "newer"):
        file = shared_web.site.storage.put([name.encode()], media_type="application/zip")
        with shared_web.site.sessions.begin() as session:
            dataset, check = dataset_registry.register_upload(session, name=name, upload=file, owner="local")
            lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
            if name == "older":
                lifecycle.succeed(session, check.id, 1, summary=summary)
        ids.append((dataset.id, check.id))
    (older, _), (newer, check_id) = ids
    with open_page(browser, shared_web, "/ui/datasets") as page:
        tab_to(page, f"#state-{older} summary")
        page.keyboard.press("Enter")
        keep_focus(page)
        with shared_web.site.sessions.begin() as session:
            lifecycle.succeed(session, check_id, 1, summary=summary)
        expect(page.locator(f"#state-{newer}")).to_contain_text("ready")
        assert_focus_kept(page)
        expect(page.locator(f"#state-{older} details[open]")).to_have_count(1)
        assert page.locator("[hx-trigger^=every]").count() == 0
