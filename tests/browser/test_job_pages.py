"""The pages of fine-tunings as a browser lays them out: on a phone every outcome is readable and every button reachable."""

import re
from pathlib import Path

import pytest

from tests.browser.layout import CHROMIUM, measure_page
from tests.sample_reports import sample_finetune
from tests.service.api.test_outcomes import finish_finetuning

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

MEASURE = """
const right = element => element.getBoundingClientRect().right;
const ends = [...document.querySelectorAll(".status, button")].filter(element => element.offsetParent).map(right);
document.title = JSON.stringify({width: document.documentElement.scrollWidth, ends});
"""
STYLE = Path(__file__).parents[2] / "api/pages/static/faal.css"
OUTCOMES = [("better", 2), ("mixed", 1), ("worse", 3), ("unclear", 0), ("kept-original", 0)]


def test_outcomes_and_buttons_are_in_sight_on_a_phone(own_web, tmp_path: Path) -> None:
    """At 390 pixels no page is wider than the screen, and no pill and no button is cut off at the edge of a table."""
    report = sample_finetune()
    addresses = ["/"]
    for outcome, falls in OUTCOMES:
        of_outcome = report.model_copy(update={"outcome": outcome})
        addresses.append(f"/ui/jobs/{finish_finetuning(own_web, outcome, falls, of_outcome, has_trained_weights=True)}")
    style = f"<style>{STYLE.read_text('utf-8')}</style>"
    for address in addresses:
        page = own_web.client.get(address).text
        seen = measure_page(re.sub(r"<link[^>]*stylesheet[^>]*>", lambda _: style, page), tmp_path, 390, MEASURE)
        assert seen["width"] == 390, address
        assert len(seen["ends"]) >= 4, address
        assert max(seen["ends"]) <= 390 - 16, address
