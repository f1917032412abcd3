"""A report in plain words: its verdict and its warnings. What other packages need of the wording is offered here too."""

from faal_core.reports.audit_text import audit_verdict
from faal_core.reports.documents import AuditReport, ReliabilityWarning
from faal_core.reports.finetune_documents import FinetuneReport
from faal_core.reports.finetune_text import LISTED_FALLS, audits, finetune_verdict, tone
from faal_core.reports.wording import bounds, percent, points, shown, time_left, with_bounds

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
    """List the report's warnings once, each with its audit: "before", "after", both, or "" for the report as a whole."""
    times: dict[ReliabilityWarning, list[str]] = {}
    if isinstance(report, FinetuneReport):
        times.update((warning, [""]) for warning in report.warnings)
    for when, audit in audits(report).items():
        for warning in [*_stopped(audit), *audit.warnings]:
            times.setdefault(warning, []).append(when)
    return [(" and ".join(filter(None, when)), warning) for warning, when in times.items()]


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
