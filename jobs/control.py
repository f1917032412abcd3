"""What a client can do with a job: cancel, pause, resume and retry it, in the caller's transaction.

A running job is only asked to stop; its worker moves it.
"""

from sqlalchemy.orm import Session

from jobs import moves, outcomes
from jobs.errors import JobStateConflict
from jobs.settings import MAX_PRIORITY, Settings
from jobs.states import FINAL, JobKind, JobState
from jobs.submission import Submission, submit
from jobs.tables import Job


def cancel(session: Session, job_id: str) -> Job:
    """The job: cancelled at once if it was queued or paused, asked to stop if it is running, unchanged if cancelled before.

    Raises: JobNotFound; JobStateConflict when it succeeded or failed.
    """
    job = moves.locked(session, job_id)
    if job.state in FINAL - {JobState.CANCELLED}:
        raise JobStateConflict(f"Job {job_id} has {job.state} already; only one that has not ended can be cancelled.")
    if (withdrawn := moves.move(session, "withdraw", job_id)) is not None:
        outcomes.reject_cancelled(session, withdrawn)
    elif job.state is JobState.RUNNING and not job.cancel_requested:
        moves.change(session, job_id, cancel_requested=True)
        moves.note(session, job, "cancel-requested", {})
    return job


def pause(session: Session, job_id: str) -> Job:
    """The job: paused at once if it was queued, asked to stop if it is running, unchanged if paused before.

    Raises: JobNotFound; JobStateConflict when it has ended or shall be cancelled.
    """
    job = moves.locked(session, job_id)
    _require_unfinished(job, "a queued or running job can be paused")
    if moves.move(session, "pause", job_id) is None and job.state is JobState.RUNNING and not job.pause_requested:
        moves.change(session, job_id, pause_requested=True)
        moves.note(session, job, "pause-requested", {})
    return job


def resume(session: Session, job_id: str) -> Job:
    """The job: queued again if it was paused, to go on from what it had stored; unchanged if it is queued or runs on.

    Asked for while it stops to be paused, it runs on, or is queued as soon as it has stopped. Ring after the commit.

    Raises: JobNotFound; JobStateConflict when it has ended or shall be cancelled.
    """
    job = moves.locked(session, job_id)
    _require_unfinished(job, "a paused job can be resumed")
    resumed = moves.move(session, "resume", job_id, body={"reason": "resumed"}, pause_requested=False)
    if resumed is None and job.pause_requested:
        moves.change(session, job_id, pause_requested=False)
        moves.note(session, job, "resumed", {})
    return job


def retry(
    session: Session,
    settings: Settings,
    job_id: str,
    *,
    owner: str,
    idempotency_key: str | None = None,
    max_priority: int = MAX_PRIORITY,
) -> Job:
    """Submit a new job with the spec of a failed or cancelled one, which stays as it is, and return the new job.

    The new job has the whole budget again, and no deadline.

    Raises: JobNotFound; JobStateConflict where the job did not fail and was not cancelled, or where it checks an upload; and
        the errors of `submission.submit`.
    """
    job = moves.locked(session, job_id)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise JobStateConflict(
            f"Job {job_id} is {job.state}; only one that failed or was cancelled can be tried again."
        )
    if job.model_id is None or job.dataset is None or job.kind not in (JobKind.FINETUNE, JobKind.AUDIT):
        raise JobStateConflict(
            f"Job {job_id} made a model or data set ready; upload the file, or ask for the candidate, again instead."
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
        idempotency_key=idempotency_key,
    )
    return submit(session, settings, again)


def _require_unfinished(job: Job, possible: str) -> None:
    """Returns if the job has not ended and shall not. Raises: JobStateConflict, with what is possible alone."""
    if job.state in FINAL or job.cancel_requested:
        stands = f"has {job.state} already" if job.state in FINAL else "is being cancelled"
        raise JobStateConflict(f"Job {job.id} {stands}; only {possible}.")
