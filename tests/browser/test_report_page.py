"""A report's page as a browser lays it out: on a phone nothing leaves the screen, and no two labels overlap."""

import itertools
from pathlib import Path

import pytest

from faal_core.reports import html
from faal_core.results.finetune_documents import Candidate
from tests.browser.layout import CHROMIUM, measure_page
from tests.sample_reports import sample_audit, sample_finetune

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

MEASURE = """
const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] };
const lanes = [...document.querySelectorAll(".lane:not(.scale)")].map(lane => [...lane.children].map(box));
const drawings = [...document.querySelectorAll(".drawing svg")];
const chart = drawings.find(drawing => drawing.textContent.includes("mean robust accuracy, validation images")) || document;
const boxes = chosen => [...document.querySelectorAll(chosen)].map(box);
document.title = JSON.stringify({
  width: document.documentElement.scrollWidth, seen: innerWidth, lanes,
  drawings: boxes(".drawing svg"), texts: boxes(".drawing svg text"), captions: boxes(".table > figcaption"),
  numbers: [...chart.querySelectorAll(".role-mark.mark-text text")].map(box), tables: document.querySelectorAll("table").length,
  heads: [...document.querySelectorAll("thead th")].map(head => [head.textContent, box(head)[2]]),
});
"""


@pytest.mark.parametrize("kind", ["audit", "finetune"])
@pytest.mark.parametrize("classes", [2, 43, 100])
def test_a_phone_shows_the_whole_width_and_labels_do_not_meet(kind: str, classes: int, tmp_path: Path) -> None:
    """At 390 pixels the page is no wider than the screen, and names, tracks and values of all classes do not overlap."""
    names = tuple(f"A speed limit of thirty kilometres an hour {i}" for i in range(classes))
    rates = [0.02 + 0.9 * i / classes for i in range(classes)]
    report = sample_audit(names, rates, 30, attacks="fast") if kind == "audit" else sample_finetune(names, rates, rates)
    seen = measure_page(html.render(report), tmp_path, 390, MEASURE)
    assert seen["seen"] == 390
    assert seen["width"] <= 390
    assert len(seen["lanes"]) == min(classes, 60) * (1 if kind == "audit" else 2)
    for name, track, values in seen["lanes"]:
        assert 0 <= name[0] < name[2] < track[0] < track[2] < values[0] < values[2] <= 390
        assert track[2] - track[0] > 100
    column = seen["lanes"][: min(classes, 60)]
    for upper, lower in itertools.pairwise(column):
        assert all(a[3] <= b[1] + 0.5 for a, b in zip(upper, lower, strict=True))


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return the measurements of the page of a fine-tuning with candidates close to one another, at 390 pixels."""
    places = [(0.74, 0.31), (0.74, 0.31), (0.7401, 0.312), (0.739, 0.36), (0.735, 0.38), (0.7391, 0.361), (0.72, 0.45)]
    candidates = tuple(
        Candidate(interpolation=i / 6, clean=0.86, robust=mean, robust_worst=worst, on_front=True)
        for i, (mean, worst) in enumerate(places)
    )
    report = sample_finetune().model_copy(update={"candidates": candidates, "selected_interpolation": 1.0})
    return measure_page(html.render(report), tmp_path_factory.mktemp("phone"), 390, MEASURE)


def test_drawings_and_captions_are_never_cut_on_a_phone(phone: dict) -> None:
    """Every drawing, every text in a drawing and every caption of a table is within the screen."""
    assert len(phone["drawings"]) == 6
    assert len(phone["captions"]) == phone["tables"] == 7
    for left_edge, _, right_edge, _ in [*phone["drawings"], *phone["texts"], *phone["captions"]]:
        assert 0 <= left_edge < right_edge <= 390


def test_before_after_and_verdict_are_seen_on_a_phone_without_scrolling(phone: dict) -> None:
    """The first four columns of both tables of changes are within the screen."""
    for first in (
        i for i, (name, _) in enumerate(phone["heads"]) if name == "Class" and phone["heads"][i + 1][0] == "Before"
    ):
        assert [name for name, _ in phone["heads"][first : first + 4]] == ["Class", "Before", "After", "Verdict"]
        assert phone["heads"][first + 3][1] <= 390


def test_labels_of_candidates_do_not_meet(phone: dict) -> None:
    """Candidates that are close to one another share a label, so that no two labels overlap."""
    assert 3 <= len(phone["numbers"]) < 7
    for one, other in itertools.combinations(phone["numbers"], 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_robust_accuracy_is_seen_beside_seven_attacks(tmp_path: Path) -> None:
    """With the preset `fast` and one more attack every column of the classes' table is within a screen of 1280 pixels."""
    fast = [attack.model_dump() for attack in sample_audit(attacks="fast").spec.attacks]
    report = sample_audit(attacks=[*fast, {"type": "pgd", "steps": 100}])
    seen = measure_page(html.render(report), tmp_path, 1280, MEASURE)
    heads = seen["heads"][:11]
    assert [name for name, _ in heads] == ["Class", "Images", "Clean", "Robust", *(f"After {k}" for k in range(1, 8))]
    assert max(edge for _, edge in heads) <= (1280 + 62 * 16) / 2  # the right edge of the page's column
