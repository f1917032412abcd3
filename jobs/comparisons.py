"""Comparisons of audits: which jobs can be compared, and that these stay until the comparison has been made."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, String, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from faal_core.results.comparability import require_comparable
from faal_core.results.reading import newest_audit, read_report
from jobs import queries
from jobs.errors import JobNotFound, JobStateConflict
from jobs.states import AUDITING, FINAL, JobKind, JobState
from jobs.tables import Job

MOST_COMPARED = 20  # jobs; a worker reads all of their reports


def require_comparable_jobs(session: Session, job_ids: Sequence[str]) -> None:
    """Check that the jobs have audits that can be compared; nobody can delete the jobs until the transaction ends.

    Raises: JobNotFound; JobStateConflict where a job audits nothing or has not succeeded; InvalidSpec where two audits differ
        in more than their models.
    """
    for job_id in job_ids:
        job = session.get(Job, job_id, with_for_update={"read": True}, populate_existing=True)
        if job is None:
            raise JobNotFound(f"There is no job {job_id!r}; `GET /jobs` lists them.")
        if job.kind not in AUDITING or job.state is not JobState.SUCCEEDED:
            raise JobStateConflict(
                f"Job {job_id} is {job.kind} and {job.state}. Compare audits and fine-tunings that have succeeded."
            )
    if len(job_ids) == 2:
        documents = [queries.require_report(session, job_id).document for job_id in job_ids]
        before, after = map(newest_audit, map(read_report, documents))
        require_comparable(before, after)


def is_being_compared(job_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return the condition that a comparison that has not ended needs the job."""
    comparison = aliased(Job)
    # States are listed, since an index finds the few unfinished jobs by them.
    unfinished = comparison.state.in_(set(JobState) - FINAL) & (comparison.kind == JobKind.COMPARE)
    return select(comparison.id).where(unfinished, comparison.spec.cast(String).contains(job_id)).exists()
