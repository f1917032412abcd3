"""From the upload of a model to the evidence pack with the keyboard alone, with a worker that runs the jobs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from faal_core import networks, weights
from faal_core.evidence import create_key, read_public_key, verify_pack
from faal_core.results.gates.documents import GateResult
from faal_core.specs import ClassifierSpec
from tests.browser.driving import MOST_TABS, check_looks, open_page, submit
from tests.browser.layout import CHROMIUM
from tests.evidence_packs import read_members
from tests.service.api.conftest import SIGNER, Web, serve

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8})
IMAGES = 64
KEY, PUBLIC_KEY = "signing.pem", "signing.pub.pem"
JOB_MS = 60_000  # a job may take as long on a busy machine
FOCUS = """selector => {
  const element = document.activeElement, style = getComputedStyle(element);
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return {
    element: element.outerHTML.slice(0, 200), matches: element.matches(selector),
    outlined: outlined || element === document.body,  // the focus leaves the page at its end
  };
}"""


@pytest.fixture
def web_with_worker(tmp_path: Path) -> Iterator[Web]:
    """Yield a service that signs packs, with a worker whose jobs start without importing torch again."""
    create_key(tmp_path / KEY)
    for web in serve(tmp_path, {"signing_key": tmp_path / KEY, "signer": SIGNER}):
        web.site.start("tests.service.forking_worker")
        yield web


def walk_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Move the focus with the key to the element that matches. Every element on the way has a visible outline."""
    for _ in range(MOST_TABS):
        page.keyboard.press(key)
        focus = page.evaluate(FOCUS, selector)
        assert focus["outlined"], focus["element"]
        if focus["matches"]:
            return
    raise AssertionError(f"{selector} cannot be reached with the key {key}")


def follow(page: Page, selector: str, key: str = "Tab") -> None:
    """Move the focus to the link or button, and press Enter."""
    walk_to(page, selector, key)
    submit(page)


def upload_model(page: Page, file: Path) -> None:
    """Upload a model, and go to the form that starts a job with it once a worker has checked it."""
    follow(page, "a[href='/ui/models']")
    walk_to(page, "#file")
    page.set_input_files("#file", file)  # the dialog is the system's
    follow(page, "#upload button")
    expect(page.locator("#state")).to_contain_text("ready", timeout=JOB_MS)
    follow(page, "a[href^='/?model=']")


def start_audit(page: Page) -> None:
    """Read the estimate, and start a quick audit of a few images."""
    expect(page.locator("[name=kind]:checked")).to_have_value("audit")
    walk_to(page, "form.start summary")
    page.keyboard.press("Enter")
    walk_to(page, "#attacks")
    page.keyboard.press("Home")
    walk_to(page, "#images")
    page.keyboard.type(str(IMAGES))
    expect(page.locator("#estimate")).to_have_text(re.compile("passes through the network|at the pace of"))
    follow(page, "form.start button.primary")


def check_limits(page: Page) -> None:
    """Check a comparison against two limits, from its page."""
    follow(page, "a[href$='/gate']")
    walk_to(page, "#min_clean")
    page.keyboard.type("95")
    walk_to(page, "#tolerance")
    page.keyboard.type("5")
    submit(page)
    expect(page.locator("[role=status]").first).to_be_focused()
    expect(page.locator("#result-heading")).to_contain_text("The gate failed")


def test_everything_is_done_with_the_keyboard(browser: Browser, web_with_worker: Web, tmp_path: Path) -> None:
    """Two versions are uploaded, audited, compared, checked against limits, shared and packed; the pack is verified."""
    with open_page(browser, web_with_worker, "/") as page:
        for seed in (1, 2):
            torch.manual_seed(seed)
            weights.write_classifier(tmp_path / f"version-{seed}.safetensors", networks.build(SPEC))
            upload_model(page, tmp_path / f"version-{seed}.safetensors")
            start_audit(page)
        follow(page, "nav a[href='/']")  # an audit still runs; the list offers to compare it once it has ended
        expect(page.locator("td.state .succeeded")).to_have_count(2, timeout=JOB_MS)
        for _ in range(2):
            walk_to(page, "[name=job]:not(:checked)")
            page.keyboard.press("Space")
        follow(page, "form[action='/ui/comparisons'] button")
        expect(page.locator("#results")).to_contain_text("Read the report", timeout=JOB_MS)
        check_limits(page)
        check_looks(page)
        follow(page, "p.kind a", "Shift+Tab")
        follow(page, "a[href$='/share']")
        follow(page, "aside button")
        expect(page.locator("#link")).to_be_focused()
        follow(page, "p.kind a", "Shift+Tab")
        check_limits(page)
        walk_to(page, "form[action$='/pack'] button")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        download.value.save_as(tmp_path / "pack.zip")
        expect(page.locator("#result-heading")).to_be_visible()
    result = verify_pack(tmp_path / "pack.zip", public_key=read_public_key(tmp_path / PUBLIC_KEY))
    assert (result.verified, result.trusted, result.signer) == (True, True, SIGNER)
    members = read_members(tmp_path / "pack.zip")
    assert GateResult.model_validate_json(members["gate.json"]).status == "fail"
    assert members["policy.yaml"] == b"min_clean: 0.95\nbaseline:\n  tolerance: 0.05\n"
