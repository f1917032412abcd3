"""Write the parts of a gate's result that all formats share: requirements, limits, values and the conclusion."""

from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import AuditIdentity, GateResult, RequirementResult
from faal_core.results.rate_text import percent

HELP = {
    "scope": "States what the audit must have covered: norm, radius, attacks, data set or weights.",
    "min_worst": "Limits the robust accuracy of the worst class from below, by the interval of the smallest true rate.",
    "min_robust": "Limits the robust accuracy over all images from below.",
    "min_clean": "Limits the clean accuracy over all images from below.",
    "max_gap": "Limits the gap between the mean of the classes' robust accuracies and the smallest one from above.",
    "min_class": "Limits the robust accuracy of one class from below.",
    "min_group": "Limits the robust accuracy of the worst group of a column from below.",
    "baseline": "Fails if a mean or a class became significantly worse than in an earlier audit, by more than the tolerance.",
}
"""The meaning of each requirement, by the field of the policy."""

_PLAIN_NAMES = {
    "min_worst": "Robust accuracy, worst class",
    "min_robust": "Robust accuracy, mean",
    "min_clean": "Clean accuracy, mean",
    "max_gap": "Gap between mean and worst class",
    "min_class": "Robust accuracy",
    "min_group": "Robust accuracy, worst group",
    "baseline.clean.mean": "Fall of the clean mean",
    "baseline.clean.classes": "Fall of clean accuracy",
    "baseline.robust.mean": "Fall of the robust mean",
    "baseline.robust.classes": "Fall of robust accuracy",
}


def field(requirement: RequirementResult) -> str:
    """Return the field of the policy that states the requirement."""
    return requirement.name.partition(".")[0]


def title(requirement: RequirementResult) -> str:
    """Return the requirement's name and subject, as one line without control characters: "min_class (stop sign)"."""
    subject = f" ({sanitise(requirement.subject)})" if requirement.subject is not None else ""
    return f"{requirement.name}{subject}"


def plain_title(requirement: RequirementResult) -> str:
    """Return the requirement for readers who do not know the fields of a policy: "Robust accuracy (stop sign)"."""
    field_name, _, part = requirement.name.partition(".")
    name = f"Scope: {part}" if field_name == "scope" else _PLAIN_NAMES.get(requirement.name, requirement.name)
    return f"{name} ({sanitise(requirement.subject)})" if requirement.subject is not None else name


def limit(requirement: RequirementResult) -> str:
    """Return the limit: "≥ 25 %", "≤ 10 %", "fall ≤ 1 point"."""
    if isinstance(requirement.limit, str):
        return requirement.limit
    number = f"{100 * requirement.limit:g}"
    if field(requirement) == "baseline":
        return f"fall ≤ {number} {'point' if number == '1' else 'points'}"
    return f"{'≤' if field(requirement) == 'max_gap' else '≥'} {number} %"


def value(requirement: RequirementResult) -> str:
    """Return the measured value: a rate in percent, a fall in points."""
    measured = requirement.value
    if measured is None or isinstance(measured, str):
        return sanitise(measured or "")
    return f"{_fall(measured)} points" if field(requirement) == "baseline" else percent(measured)


def interval(requirement: RequirementResult) -> str:
    """Return the interval: "22.1 % to 41.0 %", "−1.2 to 3.4 points"; "" in the scope."""
    if requirement.low is None or requirement.high is None:
        return ""
    if field(requirement) == "baseline":
        return f"{_fall(requirement.low)} to {_fall(requirement.high)} points"
    return f"{percent(requirement.low)} to {percent(requirement.high)}"


def _fall(fall: float) -> str:
    """Return a fall in percentage points; a rise is negative: "7.2", "−0.4"."""
    return f"{round(100 * fall, 1) + 0.0:.1f}".replace("-", "−")


def conclusion(result: GateResult) -> str:
    """Return the sentence that says whether the gate passed."""
    counts = {
        status: sum(one.status == status for one in result.requirements) for status in ("pass", "fail", "undecided")
    }
    numbers = f"{counts['pass']} met, {counts['fail']} not met, {counts['undecided']} undecided"
    return (
        f"The gate {'passed' if result.passed else 'failed' if result.status == 'fail' else 'is undecided'}: {numbers}."
    )


def describe(audit: AuditIdentity) -> str:
    """Return the sentence that names an audit."""
    attacks = "; ".join(audit.attacks)
    return sanitise(
        f"{audit.classifier} on {audit.images:,} images of {audit.dataset}, {audit.threat}, attacks: {attacks}; "
        f"weights {audit.classifier_sha256[:12]}, data {audit.dataset_sha256[:12]}."
    )


def violations(result: GateResult) -> list[RequirementResult]:
    """Return the requirements that are not met or undecided, the unmet first."""
    return sorted((one for one in result.requirements if one.status != "pass"), key=lambda one: one.status != "fail")
