"""Say when the audit of a pack ran, and whether a policy was signed before it."""

from datetime import UTC, datetime, timedelta

from faal_core.evidence.contents import BATCHES, Contents
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport


def find_times(audit: AuditReport) -> tuple[datetime, datetime]:
    """Return the times at which the audit began, or was resumed for the last time, and at which it ended, in UTC.

    Raises: PackRefused for times without a time zone, or beyond the calendar.
    """
    if audit.created_at.tzinfo is None or not audit.seconds >= 0:
        raise PackRefused("The report does not say when the audit ran: created_at or seconds is wrong.")
    try:
        end = audit.created_at.astimezone(UTC)
        return end - timedelta(seconds=audit.seconds), end
    except (OverflowError, ValueError):
        raise PackRefused("The report does not say when the audit ran: created_at or seconds is wrong.") from None


def has_unknown_start(contents: Contents) -> bool:
    """Return whether earlier runs are possible that the report does not time.

    They are unless the report says that the audit was not resumed. They also are with a ledger, and of a fine-tuning.
    """
    report = contents.report
    return BATCHES in contents.members or isinstance(report, FinetuneReport) or report.resumed is not False


def is_before_audit(contents: Contents, time: datetime) -> bool | None:
    """Return whether the time is before the start of the audit; None where only the start of its last run is known.

    Raises: PackRefused, as `find_times`.
    """
    is_before = _is_before_last_run(contents, time)
    return None if has_unknown_start(contents) else is_before


def describe_order(contents: Contents, time: datetime) -> str:
    """Return whether the time is before the audit, in words. Raises: PackRefused, as `find_times`."""
    is_before = _is_before_last_run(contents, time)
    if has_unknown_start(contents):
        order = "before the last run of the audit began" if is_before else "after the last run of the audit had started"
        return f"{order}; when its first run began is not known"
    return "before the audit started" if is_before else "after the audit had started"


def _is_before_last_run(contents: Contents, time: datetime) -> bool:
    """Compare the time with the start of the audit's last run; of a fine-tuning, of the audit before it."""
    report = contents.report
    start, _ = find_times(report.before if isinstance(report, FinetuneReport) else report)
    return time <= start
