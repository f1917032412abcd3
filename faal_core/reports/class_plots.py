"""Plot every class as a dot with its interval, drawn by the page itself, so that it fits a phone, a screen and paper.

Positions are percentages of a track's width. No text is placed by coordinates, so no text can cover another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from faal_core.reports.wording import distinguish, worst_first
from faal_core.results.documents import AuditReport, ClassRow, Rate

PLOTTED_CLASSES = 60  # most rows; of more classes, those with the lowest robust accuracy get a row
PROFILE_HEIGHT = 200  # pixels


@dataclass(frozen=True, slots=True)
class PlotRow:
    """Holds one class: its name, and a rate for each kind of accuracy."""

    name: str
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """Draws all classes in a space of fixed size, worst first from left to right; points of an SVG of 1000 × 100 units.

    Args:
        band: outline of the intervals.
        line: points of the rates.
    """

    classes: int
    band: str
    line: str


@dataclass(frozen=True, slots=True)
class ClassPlot:
    """Holds a plot of one or two kinds of accuracy."""

    title: str
    kinds: tuple[str, ...]
    rows: tuple[PlotRow, ...]
    mean: float | None
    profile: Profile | None


def build_audit_plot(report: AuditReport) -> ClassPlot:
    """Return the clean and robust accuracy of the worst classes, and a profile of all classes where there are more."""
    order = worst_first(report.classes)
    return ClassPlot(
        title="",
        kinds=("clean", "robust"),
        rows=_build_rows([report.classes], order, lambda row: row.rates),
        mean=report.robust.mean.rate,
        profile=_build_profile([report.classes[c].robust for c in order]),
    )


def build_change_plots(before: Sequence[ClassRow], after: Sequence[ClassRow]) -> list[ClassPlot]:
    """Return one plot of robust and one of clean accuracy, before and after, of the classes that are worst afterwards.

    Args:
        before, after: the same classes in the same order.
    """
    order = worst_first(after)
    return [
        ClassPlot(
            title=title,
            kinds=("before", "after"),
            rows=_build_rows([before, after], order, partial(_select_rate, title)),
            mean=None,
            profile=_build_profile([after[c].robust for c in order]) if title == "robust" else None,
        )
        for title in ("robust", "clean")
    ]


def _select_rate(kind: str, row: ClassRow) -> tuple[Rate, ...]:
    return (row.robust if kind == "robust" else row.clean,)


def _build_rows(
    audits: Sequence[Sequence[ClassRow]], order: Sequence[int], rates: Callable[[ClassRow], tuple[Rate, ...]]
) -> tuple[PlotRow, ...]:
    names = distinguish([row.name for row in audits[0]])
    return tuple(
        PlotRow(names[c], tuple(rate for rows in audits for rate in rates(rows[c]))) for c in order[:PLOTTED_CLASSES]
    )


def _build_profile(rates: Sequence[Rate]) -> Profile | None:
    """Return the profile of the rates, which ascend; None where every class has a row of its own."""
    if len(rates) <= PLOTTED_CLASSES:
        return None
    places = [1000 * i / (len(rates) - 1) for i in range(len(rates))]

    def points(values: Sequence[float], positions: Sequence[float]) -> str:
        return " ".join(f"{x:.1f},{100 - 100 * value:.1f}" for x, value in zip(positions, values, strict=True))

    low, high = ([rate.low for rate in rates], [rate.high for rate in rates])
    band = f"{points(high, places)} {points(low[::-1], places[::-1])}"
    return Profile(len(rates), band, points([rate.rate for rate in rates], places))
