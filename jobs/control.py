"""What a client can do with a job: submit, cancel, pause, resume and try again, in the caller's transaction.

A running job is only asked to stop; its worker moves it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from jobs import moves, outcomes
from jobs.errors import JobStateConflict
from jobs.idempotency import once, payload_digest
from jobs.quotas import require_room_for_job
from jobs.settings import MAX_PRIORITY, NO_QUOTA, Quota
from jobs.states import FINAL, JobKind, JobState
from jobs.tables import Job


def submit(
    session: Session,
    *,
    kind: JobKind,
    model_id: str,
    dataset: str,
    spec: Mapping[str, Any],
    owner: str,
    idempotency_key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    priority: int = 0,
    max_priority: int = MAX_PRIORITY,
    pool: str | None = None,
    budget_minutes: float | None = None,
    deadline: datetime | None = None,
    retry_of: str | None = None,
    quota: Quota = NO_QUOTA,
) -> Job:
    """A queued job with its first event, or the job that this idempotency key made before. Ring after the commit.

    Args:
        priority: waiting jobs of higher priority are taken first.
        max_priority: the highest that this job may have; it replaces a higher one.
        pool: of the workers that may take it; any when absent.
        budget_minutes: of running, in all attempts together, after which the job ends with what it has.
        deadline: aware; likewise. A job that no worker has begun until then fails.
        retry_of: the job that this one tries again.
        quota: what the owner may have at a time; no limit when absent.
    Raises: ModelNotFound, ModelNotReady, DatasetNotFound, DatasetNotReady, IdempotencyConflict, QuotaExceeded; UnknownName for
        a data set that is neither uploaded nor in the catalog.
    """
    labels = dict(metadata or {})
    payload: dict[str, Any] = {"kind": kind, "model": model_id, "dataset": dataset, "spec": spec, "metadata": labels}
    if priority or retry_of:
        payload |= {"priority": priority, "retry_of": retry_of}
    if pool is not None:
        payload |= {"pool": pool}
    if budget_minutes is not None or deadline is not None:
        due = None if deadline is None else deadline.astimezone(UTC).isoformat()
        payload |= {"budget_minutes": budget_minutes, "deadline": due}
    job = Job(
        kind=kind,
        owner=owner,
        model_id=model_id,
        dataset=dataset,
        spec=dict(spec),
        metadata_=labels,
        priority=min(priority, max_priority),
        pool=pool,
        budget_minutes=budget_minutes,
        deadline=deadline,
        retry_of=retry_of,
        idempotency_key=idempotency_key,
        payload_sha256=payload_digest(payload),
    )

    def create() -> Job:
        outcomes.require_ready(session, model_id, dataset)
        require_room_for_job(session, owner, kind, quota)
        return moves.add(session, job)

    return once(session, owner=owner, key=idempotency_key, payload_sha256=job.payload_sha256, create=create)


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
    job_id: str,
    *,
    owner: str,
    idempotency_key: str | None = None,
    max_priority: int = MAX_PRIORITY,
    quota: Quota,
) -> Job:
    """A new job that asks for what a failed or cancelled one asked for, and names it; the old one stays as it is.

    It has the same budget, anew, and no deadline.

    Raises: JobNotFound; JobStateConflict when it did not fail, or checks an upload; what `submit` does.
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
    return submit(
        session,
        kind=job.kind,
        model_id=job.model_id,
        dataset=job.dataset,
        spec=job.spec,
        owner=owner,
        idempotency_key=idempotency_key,
        metadata=job.metadata_,
        priority=job.priority,
        max_priority=max_priority,
        pool=job.pool,
        budget_minutes=job.budget_minutes,
        retry_of=job_id,
        quota=quota,
    )


def _require_unfinished(job: Job, possible: str) -> None:
    """Returns if the job has not ended and shall not. Raises: JobStateConflict, with what is possible alone."""
    if job.state in FINAL or job.cancel_requested:
        stands = f"has {job.state} already" if job.state in FINAL else "is being cancelled"
        raise JobStateConflict(f"Job {job.id} {stands}; only {possible}.")
