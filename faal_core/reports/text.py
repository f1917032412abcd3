"""A report in plain words: its verdict and its warnings. What other packages need of the wording is offered here too."""

from faal_core.reports.audit_text import audit_verdict
from faal_core.reports.finetune_text import LISTED_FALLS, audits, finetune_verdict, tone
from faal_core.reports.wording import bounds, percent, points, shown, time_left, with_bounds
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport

__all__ = [
    "LISTED_FALLS",
    "bounds",
    "percent",
    "points",
    "shown",
    "time_left",
    "tone",
    "verdict",
    "warnings",
    "with_bounds",
]


def verdict(report: AuditReport | FinetuneReport) -> list[str]:
    """What was found, with numbers and intervals, as sentences; the first alone says the most important."""
    return audit_verdict(report) if isinstance(report, AuditReport) else finetune_verdict(report)


def warnings(report: AuditReport | FinetuneReport) -> list[tuple[str, ReliabilityWarning]]:
    """List the report's warnings once, each with its audit: "before", "after", both, or "" for the report as a whole.

    One of both audits has the evidence of each where it differs.
    """
    whole = report.warnings if isinstance(report, FinetuneReport) else ()
    of_audits: dict[tuple[str, str, str], list[tuple[str, ReliabilityWarning]]] = {}
    for when, audit in audits(report).items():
        for one in [*_stopped(audit), *audit.warnings]:
            of_audits.setdefault((one.code, one.message, one.advice), []).append((when, one))
    return [*(("", warning) for warning in whole), *map(_merged, of_audits.values())]


def _merged(alike: list[tuple[str, ReliabilityWarning]]) -> tuple[str, ReliabilityWarning]:
    """Return one warning for those that differ in their audit and their evidence alone."""
    when, warning = " and ".join(dict.fromkeys(time for time, _ in alike)), alike[0][1]
    if len({one.evidence for _, one in alike}) == 1:
        return when, warning
    evidence = "; ".join(f"{time}: {one.evidence}" if time else one.evidence for time, one in alike)
    return when, warning.model_copy(update={"evidence": evidence})


def _stopped(report: AuditReport) -> list[ReliabilityWarning]:
    """The sign that attacks are missing, where they are."""
    if report.complete:
        return []
    unfinished = (
        f"{attack.name} on {attack.untried:,} of {attack.tried:,} images" for attack in report.attacks if attack.untried
    )
    return [
        ReliabilityWarning(
            code="audit-stopped",
            message="The audit was stopped before every attack was made on every image it was due on, so the true "
            "robust accuracy may be lower still.",
            evidence=f"not finished: {'; '.join(unfinished)}",
            advice="Resume it, or read its robust rates as upper bounds only.",
        )
    ]
