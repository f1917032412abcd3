"""Decide from their reports whether two audits can be compared. Needs no SciPy, so the web service can ask."""

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport


def require_comparable(one: AuditReport, other: AuditReport) -> None:
    """Check that a difference between two audits can only come from their models. Raises: InvalidSpec."""
    for report in (one, other):
        _require_distinct_names(report)
        if report.sequential is not None:
            raise InvalidSpec(
                f"The audit of {report.classifier.name} is sequential: its images depend on its rates, so it cannot be compared. "
                "Audit all images instead, without `sequential`."
            )
    if one.spec.threat != other.spec.threat:
        raise InvalidSpec(
            f"The audits have different radii, {one.spec.threat} and {other.spec.threat}. Audit both with the same."
        )
    if one.spec.attacks != other.spec.attacks:
        first, second = ("; ".join(map(repr, report.spec.attacks)) for report in (one, other))
        raise InvalidSpec(f"The audits have different attacks, {first} and {second}. Audit both with the same.")
    if describe_escalation(one) != describe_escalation(other):
        raise InvalidSpec(
            f"After warnings about gradients, the audits had different attacks: {describe_escalation(one)} and "
            f"{describe_escalation(other)}. Audit both with these attacks in the spec, or both with `escalate` set to false."
        )
    if not (one.complete and other.complete):
        raise InvalidSpec("One of the audits was stopped before its attacks had tried every image. Resume it first.")
    if not {row.name for row in one.classes} & {row.name for row in other.classes}:
        raise InvalidSpec("The audits have no class in common, so there is nothing to compare.")


def describe_escalation(report: AuditReport) -> str:
    """Return what followed the attacks of the spec: "none", or the attacks and the number of draws."""
    if report.escalation is None:
        return "none"
    names = "; ".join(map(str, report.escalation.attacks)) or "none"
    return names if report.escalation.draws == 1 else f"{names}, by the mean of {report.escalation.draws} draws"


def _require_distinct_names(report: AuditReport) -> None:
    """Check that no two classes have one name, since classes are compared by name. Raises: InvalidSpec."""
    names = [row.name for row in report.classes]
    if len(set(names)) < len(names):
        raise InvalidSpec(
            f"The audit of {report.classifier.name} has two classes of one name. Rename one, and audit again."
        )
