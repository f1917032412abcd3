"""Test the plot of every class: its numbers, for two classes and for a thousand, with any names."""

import re

import pytest

from faal_core.reports import class_plots, html
from faal_core.results.documents import AuditReport
from tests.sample_reports import FASHION, sample_audit, sample_finetune
from tests.unit.faal_core.reports.test_html import Page

LINE = re.compile(r'<line class="k(\d)" x1="([\d.]+)%" x2="([\d.]+)%" y1="(\d+)" y2="(\d+)"/>')
DOT = re.compile(r'<circle class="k(\d)" cx="([\d.]+)%" cy="(\d+)" r="4.5"/>')


def report_on_many_classes(classes: int, images: int = 20) -> AuditReport:
    """Return a report on that many classes of rising robust accuracy."""
    names = tuple(f"class {i}" for i in range(classes))
    return sample_audit(names, [0.02 + 0.9 * i / classes for i in range(classes)], images)


def test_dots_and_intervals_are_drawn_to_scale() -> None:
    """Each dot is at its rate, and each line runs from the lower to the upper bound, in per cent of the track's width."""
    report = sample_audit()
    page = html.render(report)
    by_rate = sorted(report.classes, key=lambda row: row.robust.rate)
    rates = [(kind, rate) for row in by_rate for kind, rate in enumerate((row.clean, row.robust))]
    lines = [(int(k), float(low), float(high)) for k, low, high, _, _ in LINE.findall(page)]
    assert lines == [(k, round(100 * rate.low, 2), round(100 * rate.high, 2)) for k, rate in rates]
    assert [(int(k), float(position)) for k, position, _ in DOT.findall(page)] == [
        (k, round(100 * rate.rate, 2)) for k, rate in rates
    ]


def test_the_two_rates_of_a_class_do_not_touch() -> None:
    """The dots of a class are more than their diameter apart and stay inside their track."""
    page = html.render(sample_audit())
    heights = {int(height) for height in re.findall(r'<svg class="track" width="100%" height="(\d+)"', page)}
    places = {int(y) for _, _, y in DOT.findall(page)}
    assert len(heights) == 1
    (height,), (first, second) = heights, sorted(places)
    assert second - first > 9
    assert first >= 4.5
    assert second + 4.5 <= height


@pytest.mark.parametrize("classes", [2, 10, 43, 100, 1000])
def test_every_class_is_in_a_table_and_the_page_stays_small(classes: int) -> None:
    """Every class is in a table once, for any number of classes; the plot has the worst sixty at most."""
    report = report_on_many_classes(classes)
    page = html.render(report)
    assert len(page) < 100_000 + 450 * classes
    table = [row[0] for row in Page(page).rows if len(row) == 6 and row[0].startswith("class ")]
    by_rate = [row.name for row in sorted(report.classes, key=lambda row: row.robust.rate)]
    assert table[-classes:] == by_rate
    assert table[:-classes] == (by_rate[: html.LISTED_CLASSES] if classes > 100 else [])
    lanes = re.findall(r'<span class="name">(class \d+)</span>', page)
    assert lanes == by_rate[: class_plots.PLOTTED_CLASSES]
    assert (f"Only the 60 of {classes} classes" in page) == (classes > 60)


@pytest.mark.parametrize("classes", [60, 61, 1000])
def test_more_classes_than_have_rows_are_a_profile(classes: int) -> None:
    """The profile has a point for each class, from the worst on the left to the best on the right, inside its box."""
    plot = class_plots.build_audit_plot(report_on_many_classes(classes))
    if classes <= class_plots.PLOTTED_CLASSES:
        assert plot.profile is None
        return
    assert plot.profile is not None
    line = [tuple(map(float, point.split(","))) for point in plot.profile.line.split()]
    band = [tuple(map(float, point.split(","))) for point in plot.profile.band.split()]
    assert (len(line), len(band)) == (classes, 2 * classes)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert all(0 <= x <= 1000 and 0 <= y <= 100 for x, y in line + band)


def test_a_finetuning_shows_both_accuracies_before_and_after() -> None:
    """The page has one plot of robust and one of clean accuracy, ordered by robust accuracy after the fine-tuning."""
    report = sample_finetune()
    robust, clean = class_plots.build_change_plots(report.before.classes, report.after.classes)
    assert (robust.title, clean.title) == ("robust", "clean")
    order = sorted(range(10), key=lambda c: report.after.classes[c].robust.rate)
    assert [row.name for row in robust.rows] == [row.name for row in clean.rows] == [FASHION[c] for c in order]
    worst = order[0]
    assert robust.rows[0].rates == (report.before.classes[worst].robust, report.after.classes[worst].robust)
    assert clean.rows[0].rates == (report.before.classes[worst].clean, report.after.classes[worst].clean)


def test_classes_of_one_name_stay_apart() -> None:
    """Two classes with the same name are distinguished by their labels."""
    names = [row.name for row in class_plots.build_audit_plot(sample_audit(("cat", "cat", *FASHION[2:]))).rows]
    assert {"cat [0]", "cat [1]"} <= set(names)
