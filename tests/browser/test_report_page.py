"""A report's page as a browser lays it out: on a phone nothing leaves the screen, and no two labels meet."""

import itertools
from pathlib import Path

import pytest

from faal_core.reports import html
from tests.browser.layout import CHROMIUM, measured
from tests.sample_reports import sample_audit, sample_finetune

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

MEASURE = """
const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] };
const lanes = [...document.querySelectorAll(".lane:not(.scale)")].map(lane => [...lane.children].map(box));
document.title = JSON.stringify({width: document.documentElement.scrollWidth, seen: innerWidth, lanes});
"""


@pytest.mark.parametrize("kind", ["audit", "finetune"])
@pytest.mark.parametrize("classes", [2, 43, 100])
def test_a_phone_shows_the_whole_width_and_labels_do_not_meet(kind: str, classes: int, tmp_path: Path) -> None:
    """At 390 pixels the page is no wider than the screen; names, tracks and values of all classes have places of their own."""
    names = tuple(f"A speed limit of thirty kilometres an hour {i}" for i in range(classes))
    rates = [0.02 + 0.9 * i / classes for i in range(classes)]
    report = sample_audit(names, rates, 30, attacks="fast") if kind == "audit" else sample_finetune(names, rates, rates)
    seen = measured(html.render(report), tmp_path, 390, MEASURE)
    assert seen["seen"] == 390
    assert seen["width"] <= 390
    assert len(seen["lanes"]) == min(classes, 60) * (1 if kind == "audit" else 2)
    for name, track, values in seen["lanes"]:
        assert 0 <= name[0] < name[2] < track[0] < track[2] < values[0] < values[2] <= 390
        assert track[2] - track[0] > 100
    column = seen["lanes"][: min(classes, 60)]
    for above, below in itertools.pairwise(column):
        assert all(a[3] <= b[1] + 0.5 for a, b in zip(above, below, strict=True))
