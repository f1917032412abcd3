"""The comparison job: the stored reports and outcomes of other jobs → a report of their differences. It runs no model."""

from faal_core.errors import InvalidSpec
from faal_core.results.audit_comparison import compare_audits, tabulate_audits
from faal_core.results.documents import AuditReport
from faal_core.results.outcomes import read_outcomes
from faal_core.results.reading import StoredAudit, newest_audit, read_report
from jobs import queries
from jobs.errors import OutcomesNotFound
from worker.assignment import Assignment, JobResult


def run(assignment: Assignment) -> JobResult:
    """Return the report: the tests of two audits, or the table of more.

    Raises: InvalidSpec where a report was removed, or the audits cannot be compared; FileLost, StoreUnavailable.
    """
    job_ids = assignment.job.spec["jobs"]
    audits = [_read_audit(assignment, job_id) for job_id in job_ids]
    if len(audits) > 2:
        return JobResult(report=tabulate_audits(audits).model_dump_json())
    before, after = (_add_outcomes(assignment, *one) for one in zip(job_ids, audits, strict=True))
    return JobResult(report=compare_audits(before, after).model_dump_json())


def _read_audit(assignment: Assignment, job_id: str) -> AuditReport:
    """Return the audit in the report of a job; of a fine-tuning, the audit of its new weights."""
    row = assignment.read(lambda session: queries.find_report(session, job_id))
    if row is None:
        raise InvalidSpec(f"The report of job {job_id} was removed before it was compared. Run the job again.")
    return newest_audit(read_report(row.document))


def _add_outcomes(assignment: Assignment, job_id: str, report: AuditReport) -> StoredAudit:
    """Return the audit with its outcomes; older reports have none."""
    try:
        stored = assignment.read(lambda session: queries.find_outcomes(session, job_id))
    except OutcomesNotFound:
        return StoredAudit(report, None)
    return StoredAudit(report, read_outcomes(assignment.fetch_file(stored.sha256), report))
