"""Check the requirements of a baseline that is not in the pack: each row is written again from its own numbers and the report."""

from collections.abc import Sequence

from faal_core.results.documents import AuditReport, Rate
from faal_core.results.gates.baseline import Accuracy, Fall, is_significant, report_fall, report_pass
from faal_core.results.gates.documents import GateResult, RequirementResult
from faal_core.results.trust import doubts, doubts_of_codes

BASELINE = "baseline."
"""Starts the names of these requirements."""
_ACCURACIES: tuple[Accuracy, ...] = ("clean", "robust")


def are_rows_of_baseline(rows: Sequence[RequirementResult], gate: GateResult, report: AuditReport) -> bool:
    """Return whether the rows are the mean and the classes, clean and then robust, each as a gate writes it."""
    remaining = list(rows)
    names = [row.name for row in report.classes]
    for accuracy in _ACCURACIES:
        for kind in ("mean", "classes"):
            title = f"{BASELINE}{accuracy}.{kind}"
            taken = [one for one in remaining if one.name == title]
            if remaining[: len(taken)] != taken:
                return False
            remaining = remaining[len(taken) :]
            subjects = [one.subject for one in taken]
            fallen = [name for name in names if name in subjects]
            if subjects != [None] and not (kind == "classes" and fallen and subjects == fallen):
                return False
            if not all(_is_as_written(one, accuracy, kind, gate, report) for one in taken):
                return False
    return not remaining


def _is_as_written(
    row: RequirementResult, accuracy: Accuracy, kind: str, gate: GateResult, report: AuditReport
) -> bool:
    """Return whether a gate writes the row from its numbers. A row of all classes does not name its class, so each is tried."""
    rates: dict[str | None, Rate] = {None: getattr(report, accuracy).mean}
    if kind == "classes":
        rates = {one.name: getattr(one, accuracy) for one in report.classes if row.subject in (None, one.name)}
    return any(_write(row, name, rate, accuracy, gate, report) == row for name, rate in rates.items())


def _write(
    row: RequirementResult, name: str | None, rate: Rate, accuracy: Accuracy, gate: GateResult, report: AuditReport
) -> RequirementResult | None:
    """Return the row that a gate writes from these numbers for that class; None where no gate writes one.

    Args:
        rate: accuracy of the class, or of all images, in the report. With the fall, it gives that of the baseline.
    """
    policy, numbers = gate.policy, (row.value, row.low, row.high, row.p_adjusted)
    if policy.baseline is None:
        return None
    value, low, high, p_adjusted = (one if isinstance(one, float) and -1 <= one <= 1 else None for one in numbers)
    if value is None or low is None or high is None or p_adjusted is None or p_adjusted < 0:
        return None
    after = rate.count / rate.images
    count = round((after + value) * rate.images)
    if not 0 <= count <= rate.images:
        return None
    fall = Fall(name, count / rate.images, after, p_adjusted, low, high)
    is_clean, tolerance = accuracy == "clean", policy.baseline.tolerance
    if not is_significant(fall, gate.interval_confidence):
        return report_pass(accuracy, fall, tolerance, doubts(report, policy.accept_warnings, clean=is_clean))
    reasons = doubts_of_codes(
        gate.baseline_warnings,
        complete=gate.baseline_complete is not False,
        accepted=policy.accept_warnings,
        clean=is_clean,
    )
    return report_fall(accuracy, fall, tolerance, reasons)
