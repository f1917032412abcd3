"""Judge the falls of rates from a baseline's audit of the same images: noise passes, and significant falls fail."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.results import intervals
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import Comparison
from faal_core.results.gates.documents import RequirementResult
from faal_core.results.gates.paired_falls import fall_bounds, fall_p_values
from faal_core.results.rate_text import percent
from faal_core.results.trust import doubts, doubts_of_codes, list_codes
from faal_core.specs import Policy

Accuracy = Literal["clean", "robust"]


class PairedAudits(NamedTuple):
    """Compares the audit that is judged with a baseline's audit of the same images with the same attacks.

    Args:
        baseline: report of the earlier audit.
        clean, robust: changes from the baseline to the audit that is judged.
    """

    baseline: AuditReport
    clean: Comparison
    robust: Comparison


class Fall(NamedTuple):
    """Describes the fall of one accuracy, over all images or of one class, with its adjusted p-value and its bounds.

    Args:
        name: name of the class; None over all images.
    """

    name: str | None
    before: float
    after: float
    p_adjusted: float
    low: float
    high: float


def judge_baseline(
    policy: Policy, report: AuditReport, paired: PairedAudits, confidence: float
) -> Iterator[RequirementResult]:
    """Yield the results for clean and robust accuracy: of the mean, and of each class that fell too far, or of all classes.

    The falls of both means and of every class, clean and robust, are tested together, adjusted by Holm's method.
    A significant fall from rates of the baseline that may be too high is undecided: the true rates need not have fallen.

    Raises: InvalidSpec if the comparison is about other classes or images than the report.
    """
    tolerance = policy.baseline.tolerance if policy.baseline else 0.0
    for accuracy, (mean, *classes) in _test_falls(report, paired, tolerance, confidence).items():
        reasons = doubts(report, policy.accept_warnings, clean=accuracy == "clean")
        baseline_reasons = doubts_of_codes(
            list_codes(paired.baseline),
            complete=paired.baseline.complete,
            accepted=policy.accept_warnings,
            clean=accuracy == "clean",
        )
        fallen = [fall for fall in classes if is_significant(fall, confidence)]
        largest = max(classes, key=lambda fall: fall.high)
        for fall in (mean, *(fallen or [largest])):
            if is_significant(fall, confidence):
                yield report_fall(accuracy, fall, tolerance, baseline_reasons)
            else:
                yield report_pass(accuracy, fall, tolerance, reasons)


def is_significant(fall: Fall, confidence: float) -> bool:
    """Return whether the accuracy fell by more than the tolerance, at the confidence of the intervals."""
    return fall.p_adjusted <= 1 - confidence


def _test_falls(
    report: AuditReport, paired: PairedAudits, tolerance: float, confidence: float
) -> dict[Accuracy, list[Fall]]:
    """Return the falls of each accuracy: over all images first, then of each class."""
    compared: dict[Accuracy, Comparison] = {"clean": paired.clean, "robust": paired.robust}
    names = [row.name for row in report.classes]
    if any([row.name for row in comparison.classes] != names for comparison in compared.values()):
        raise InvalidSpec("The comparison with the baseline is about other classes than the report.")
    rows = [row for comparison in compared.values() for row in comparison.classes]
    if any(row.gained is None or row.lost is None for row in rows):
        raise InvalidSpec("The comparison with the baseline is of different images. A gate compares image by image.")
    gained = np.concatenate([_with_total([row.gained or 0 for row in one.classes]) for one in compared.values()])
    lost = np.concatenate([_with_total([row.lost or 0 for row in one.classes]) for one in compared.values()])
    after = np.concatenate([_with_total([getattr(row, kind).count for row in report.classes]) for kind in compared])
    images = np.tile(_with_total([row.images for row in report.classes]), len(compared))
    if ((gained > after) | (lost > images - after)).any():
        raise InvalidSpec("The comparison with the baseline has more images than the report.")
    adjusted = intervals.holm(fall_p_values(gained, lost, images, tolerance))
    low, high = fall_bounds(gained, lost, images, confidence)
    before = after - gained + lost
    columns = ((before / images).tolist(), (after / images).tolist(), adjusted.tolist(), low.tolist(), high.tolist())
    falls = [Fall(*row) for row in zip([None, *names] * len(compared), *columns, strict=True)]
    return {kind: falls[place * len(falls) // 2 :][: len(names) + 1] for place, kind in enumerate(compared)}


def _with_total(counts: Sequence[int]) -> intervals.Counts:
    return np.array([sum(counts), *counts])


def report_fall(accuracy: Accuracy, fall: Fall, tolerance: float, reasons: tuple[str, ...]) -> RequirementResult:
    """Return the result for a significant fall.

    Args:
        reasons: why the rate of the baseline may be too high; with a reason, the fall is undecided.
    """
    sentence = (
        f"{_name_rate(accuracy, fall)} fell from {percent(fall.before)} to {percent(fall.after)}, significantly more "
        f"than the tolerance of {_points(tolerance)} (adjusted p = {fall.p_adjusted:.2g})."
    )
    if reasons:
        sentence += f" But the rates of the baseline may be too high. Of its audit: {' '.join(reasons)}"
    return RequirementResult(
        **_measured(accuracy, fall, tolerance), status="undecided" if reasons else "fail", sentence=sentence
    )


def report_pass(accuracy: Accuracy, fall: Fall, tolerance: float, reasons: tuple[str, ...]) -> RequirementResult:
    """Return the result for a fall that is not significant: of the mean, or the one of all classes that could be largest."""
    beyond = f"significantly more than the tolerance of {_points(tolerance)}"
    if fall.name is None:
        change = "fell" if fall.after < fall.before else "rose" if fall.after > fall.before else "stayed"
        step = (
            f"at {percent(fall.after)}"
            if change == "stayed"
            else f"from {percent(fall.before)} to {percent(fall.after)}"
        )
        sentence = f"{_name_rate(accuracy, fall)} {change} {step}: no fall by {beyond}."
    else:
        sentence = f"The {accuracy} accuracy of no class fell by {beyond}."
    subject = "" if fall.name is None else f" of the class “{fall.name}”"
    sentence += f" A fall{subject} by up to {100 * max(0.0, fall.high):.1f} points is not excluded."
    if reasons:
        sentence += f" But the rates may be too high. {' '.join(reasons)}"
    return RequirementResult(
        **_measured(accuracy, fall, tolerance) | {"subject": None},
        status="undecided" if reasons else "pass",
        sentence=sentence,
    )


def _measured(accuracy: Accuracy, fall: Fall, tolerance: float) -> dict[str, Any]:
    return {
        "name": f"baseline.{accuracy}.{'mean' if fall.name is None else 'classes'}",
        "subject": fall.name,
        "limit": tolerance,
        "value": fall.before - fall.after,
        "low": fall.low,
        "high": fall.high,
        "p_adjusted": fall.p_adjusted,
    }


def _points(tolerance: float) -> str:
    return f"{100 * tolerance:g} point{'' if tolerance == 0.01 else 's'}"


def _name_rate(accuracy: Accuracy, fall: Fall) -> str:
    subject = "over all images" if fall.name is None else f"of the class “{fall.name}”"
    return f"The {accuracy} accuracy {subject}"
