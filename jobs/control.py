"""The changes that a client can request of a job: cancel, pause, resume and retry, in the caller's transaction.

A running job is only asked to stop; its worker then changes the state (`lifecycle.release`, `lifecycle.cancel_running`).
"""

from sqlalchemy import update
from sqlalchemy.orm import Session

from jobs import moves, results
from jobs.errors import JobStateConflict
from jobs.settings import MAX_PRIORITY, Settings
from jobs.states import FINAL, REPORTING, JobState
from jobs.study_tables import StudyRun
from jobs.submission import Submission, submit
from jobs.tables import Job


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a queued or paused job at once, ask a running one to stop, and return the job.

    A job that was cancelled before stays as it is. Raises: JobNotFound; JobStateConflict when it succeeded or failed.
    """
    job = moves.lock_job(session, job_id)
    if job.state in FINAL - {JobState.CANCELLED}:
        raise JobStateConflict(f"Job {job_id} has {job.state} already; only a job that has not ended can be cancelled.")
    if (cancelled := moves.move(session, "cancel-waiting", job_id)) is not None:
        results.reject_cancelled_upload(session, cancelled)
    elif job.state is JobState.RUNNING and not job.cancel_requested:
        moves.update_job(session, job_id, cancel_requested=True)
        moves.add_event(session, job, "cancel-requested", {})
    return job


def pause(session: Session, job_id: str) -> Job:
    """Pause a queued job at once, ask a running one to stop, and return the job.

    A job that was paused before stays as it is. Raises: JobNotFound; JobStateConflict when it has ended or is being cancelled.
    """
    job = moves.lock_job(session, job_id)
    _require_unfinished(job, "a queued or running job can be paused")
    paused = moves.move(session, "pause-waiting", job_id)
    if paused is None and job.state is JobState.RUNNING and not job.pause_requested:
        moves.update_job(session, job_id, pause_requested=True)
        moves.add_event(session, job, "pause-requested", {})
    return job


def resume(session: Session, job_id: str) -> Job:
    """Queue a paused job again, to resume from its checkpoint, and return the job; a queued or running one stays as it is.

    A running job that was asked to pause runs on, or is queued as soon as it has stopped. Ring after the commit.

    Raises: JobNotFound; JobStateConflict when it has ended or is being cancelled.
    """
    job = moves.lock_job(session, job_id)
    _require_unfinished(job, "a paused job can be resumed")
    resumed = moves.move(session, "resume", job_id, body={"reason": "resumed"}, pause_requested=False)
    if resumed is None and job.pause_requested:
        moves.update_job(session, job_id, pause_requested=False)
        moves.add_event(session, job, "resumed", {})
    return job


def retry(
    session: Session,
    settings: Settings,
    job_id: str,
    *,
    owner: str,
    idempotency_key: str | None = None,
    max_priority: int = MAX_PRIORITY,
    submitted_by: str | None = None,
) -> Job:
    """Submit a new job with the spec of a failed or cancelled one, which stays as it is, and return the new job.

    The new job has the whole budget again, and no deadline. It takes the place of the old one in a study.

    Raises: JobNotFound; JobStateConflict where the job did not fail and was not cancelled, or where it checks an upload; and
        the errors of `submission.submit`.
    """
    job = moves.lock_job(session, job_id)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise JobStateConflict(f"Job {job_id} is {job.state}; only a job that failed or was cancelled can be retried.")
    if job.kind not in REPORTING:
        raise JobStateConflict(
            f"Job {job_id} is {job.kind}, which cannot be retried. Upload the file, or ask for the candidate, again."
        )
    again = Submission(
        kind=job.kind,
        model_id=job.model_id,
        dataset=job.dataset,
        spec=job.spec,
        owner=owner,
        metadata=job.metadata_,
        priority=job.priority,
        max_priority=max_priority,
        pool=job.pool,
        budget_minutes=job.budget_minutes,
        retry_of=job_id,
        submitted_by=submitted_by,
        idempotency_key=idempotency_key,
    )
    new_job = submit(session, settings, again)
    session.execute(update(StudyRun).where(StudyRun.job_id == job_id).values(job_id=new_job.id))
    return new_job


def _require_unfinished(job: Job, possible: str) -> None:
    """Check that the job has not ended and is not being cancelled. Raises: JobStateConflict, which quotes `possible`."""
    if job.state in FINAL or job.cancel_requested:
        condition = f"has {job.state} already" if job.state in FINAL else "is being cancelled"
        raise JobStateConflict(f"Job {job.id} {condition}; only {possible}.")
