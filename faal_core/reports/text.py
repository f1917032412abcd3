"""A report in plain words: its verdict and its warnings. Other packages import the functions for wording from here."""

from faal_core.reports.audit_text import summarise_audit
from faal_core.reports.comparison_text import summarise_comparison, summarise_table
from faal_core.reports.finetune_text import LISTED_FALLS, audits, summarise_finetune, tone
from faal_core.reports.method_table_text import summarise_methods
from faal_core.reports.wording import bounds, sanitise, time_left, with_bounds
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.rate_text import percent, points
from faal_core.results.reading import Report

__all__ = [
    "LISTED_FALLS",
    "bounds",
    "percent",
    "points",
    "sanitise",
    "time_left",
    "tone",
    "verdict",
    "warnings",
    "with_bounds",
]


def verdict(report: Report) -> list[str]:
    """Return the findings, with numbers and intervals, as sentences; the first one gives the most important finding."""
    match report:
        case AuditReport():
            return summarise_audit(report)
        case FinetuneReport():
            return summarise_finetune(report)
        case ComparisonReport():
            return summarise_comparison(report)
        case ModelTable():
            return summarise_table(report)
        case MethodTable():
            return summarise_methods(report)


def warnings(report: AuditReport | FinetuneReport | ComparisonReport) -> list[tuple[str, ReliabilityWarning]]:
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
    """Return a warning where attacks are missing."""
    if report.complete:
        return []
    unfinished = (
        f"{attack.name} on {attack.untried:,} of {attack.tried:,} images" for attack in report.attacks if attack.untried
    )
    return [
        ReliabilityWarning(
            code="audit-stopped",
            message="The audit was stopped before every attack had tried every image left for it, so the true "
            "robust accuracy may be lower still.",
            evidence=f"not finished: {'; '.join(unfinished)}",
            advice="Resume it, or read its robust rates as upper bounds only.",
        )
    ]
