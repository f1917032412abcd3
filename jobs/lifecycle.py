"""What can be done to a job, by guarded updates in the caller's transaction (`with sessions.begin() as session`).

A claim raises `attempt`, and every later write of that worker names the attempt it holds: whoever lost the lease
changes nothing and gets LeaseLost. Each change a client can see raises `version`; an event's `seq` is the version it
made.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from jobs import outcomes
from jobs.clock import now
from jobs.errors import JobNotFound, JobStateConflict, LeaseLost
from jobs.idempotency import once, payload_digest
from jobs.outcomes import StoredClassifier
from jobs.quotas import require_room_for_job
from jobs.settings import MAX_ATTEMPTS, NO_QUOTA, Quota
from jobs.states import FINAL, MOVES, JobKind, JobState, ReleaseReason
from jobs.tables import Job, JobEvent, Problem

_GIVEN_UP: Mapping[ReleaseReason, str] = {
    "worker-lost": "The worker died {crashes} times while it ran this job. Submit it again; if that does not help, "
    "look for attempt {attempt} of the job in the worker's log.",
    "out-of-memory": "The system stopped this job {crashes} times because memory ran out. Ask for less at once "
    "(a smaller batch size, a smaller upload), or run a worker with more memory.",
}


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
    quota: Quota = NO_QUOTA,
) -> Job:
    """A queued job with its first event, or the job that this idempotency key made before. Ring after the commit.

    Args:
        quota: what the owner may have at a time; no limit when absent.
    Raises: ModelNotFound, ModelNotReady, DatasetNotFound, DatasetNotReady, IdempotencyConflict, QuotaExceeded; UnknownName for
        a data set that is neither uploaded nor in the catalog.
    """
    labels = dict(metadata or {})
    payload = {"kind": kind, "model": model_id, "dataset": dataset, "spec": spec, "metadata": labels}
    job = Job(
        kind=kind,
        owner=owner,
        model_id=model_id,
        dataset=dataset,
        spec=dict(spec),
        metadata_=labels,
        idempotency_key=idempotency_key,
        payload_sha256=payload_digest(payload),
    )

    def create() -> Job:
        outcomes.require_ready(session, model_id, dataset)
        require_room_for_job(session, owner, kind, quota)
        return add(session, job)

    return once(session, owner=owner, key=idempotency_key, payload_sha256=job.payload_sha256, create=create)


def add(session: Session, job: Job) -> Job:
    """The job with its first event in the table; `submit` and the uploads' registries end here."""
    session.add(job)
    session.flush()
    _note(session, job, job.state, {})
    return job


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float) -> Job | None:
    """The job with a new attempt, leased to `worker`; None when it is not queued: another took it, or it ended."""
    return _move(
        session,
        "claim",
        job_id,
        attempt=Job.attempt + 1,
        lease_owner=worker,
        lease_expires_at=now(lease_seconds),
        started_at=now(),
        stage=None,
        done=None,
        total=None,
    )


def renew(session: Session, job_id: str, attempt: int, *, lease_seconds: float) -> bool:
    """Whether the job is still this attempt's; if so its lease now lasts `lease_seconds` from now."""
    lease = update(Job).where(Job.id == job_id, *_held(attempt)).values(lease_expires_at=now(lease_seconds))
    return session.scalars(lease.returning(Job.id)).one_or_none() is not None


def cancel_requested(session: Session, job_id: str, attempt: int) -> bool:
    """Whether this attempt of the job shall stop."""
    asked = select(Job.cancel_requested).where(Job.id == job_id, *_held(attempt))
    return bool(session.scalars(asked).one_or_none())


def hold(session: Session, job_id: str, attempt: int) -> Job:
    """The job, which stays this attempt's until the transaction ends. Raises: LeaseLost."""
    held = select(Job).where(Job.id == job_id, *_held(attempt)).with_for_update()
    return _ours(session.scalars(held.execution_options(populate_existing=True)).one_or_none(), job_id, attempt)


def keep_checkpoint(session: Session, job_id: str, attempt: int, files: Mapping[str, str]) -> None:
    """The next attempt goes on from these files: name → digest in the job's own storage. Raises: LeaseLost."""
    hold(session, job_id, attempt).checkpoint = dict(files)


def record(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    stage: str | None = None,
    done: int | None = None,
    total: int | None = None,
    seconds_left: float | None = None,
    event: tuple[str, Mapping[str, Any]] | None = None,
) -> Job:
    """The job with its new progress, and with an event (kind and body) where one is given.

    A stage that is named starts at 0, and how long the rest takes is unknown unless it is told too.

    Raises: LeaseLost.
    """
    given = {"stage": stage, "done": done, "total": total, "seconds_left": seconds_left}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if stage is not None:
        values = given | {"done": done or 0}
    job = _ours(_change(session, job_id, *_held(attempt), **values), job_id, attempt)
    if event is not None:
        _note(session, job, *event)
    return job


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    report: str | None = None,
    result_model: StoredClassifier | None = None,
    summary: Mapping[str, Any] | None = None,
) -> Job:
    """The job succeeded, with its results in the same transaction: a report, a classifier, a data set's summary.

    Which of them a kind of job ends with stands in `outcomes`. Raises: LeaseLost.
    """
    job = _ours(_move(session, "succeed", job_id, *_held(attempt)), job_id, attempt)
    outcomes.keep(session, job, report=report, result_model=result_model, summary=summary)
    return job


def fail(session: Session, job_id: str, attempt: int, *, code: str, message: str) -> Job:
    """The job failed with that error; an upload it was checking is rejected. Raises: LeaseLost."""
    problem: Problem = {"code": code, "message": message}
    job = _ours(_move(session, "fail", job_id, *_held(attempt), body=problem, error=problem), job_id, attempt)
    outcomes.reject(session, job, problem)
    return job


def release(
    session: Session, job_id: str, attempt: int, *, reason: ReleaseReason, max_attempts: int = MAX_ATTEMPTS
) -> JobState:
    """The state of a job that its worker gave up without an end: queued for the next worker as a rule.

    It is cancelled if that was asked for, and failed with `reason` as code when this was crash number `max_attempts`;
    a graceful stop ("worker-stopped") is no crash. Raises: LeaseLost.
    """
    job = hold(session, job_id, attempt)
    if job.cancel_requested:
        return cancel(session, job_id, attempt).state
    crashed = reason != "worker-stopped"
    crashes = job.crashes + crashed
    if crashed and crashes >= max_attempts:
        message = _GIVEN_UP[reason].format(crashes=crashes, attempt=attempt)
        return fail(session, job_id, attempt, code=reason, message=message).state
    lease = {"lease_owner": None, "lease_expires_at": None, "rung_at": None}
    released = _move(session, "release", job_id, *_held(attempt), body={"reason": reason}, crashes=crashes, **lease)
    return _ours(released, job_id, attempt).state


def request_cancel(session: Session, job_id: str) -> Job:
    """The job: cancelled at once if it was queued, asked to stop if it is running, unchanged if cancelled before.

    Raises: JobNotFound; JobStateConflict when it succeeded or failed.
    """
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise JobNotFound(f"There is no job {job_id!r}.")
    if job.state in FINAL - {JobState.CANCELLED}:
        raise JobStateConflict(f"Job {job_id} has {job.state} already; only a queued or running job can be cancelled.")
    if (withdrawn := _move(session, "withdraw", job_id)) is not None:
        _reject_cancelled(session, withdrawn)
    elif job.state is JobState.RUNNING and not job.cancel_requested:
        _change(session, job_id, cancel_requested=True)
        _note(session, job, "cancel-requested", {})
    return job


def cancel(session: Session, job_id: str, attempt: int, *, report: str | None = None) -> Job:
    """The running job, cancelled by its worker, with a report of what was found until then where there is one.

    An upload it was checking is rejected. Raises: LeaseLost.
    """
    job = _ours(_move(session, "cancel", job_id, *_held(attempt)), job_id, attempt)
    if report is not None:
        outcomes.keep_report(session, job, report)
    _reject_cancelled(session, job)
    return job


def overdue(session: Session, *, ring_after: float, max_attempts: int = MAX_ATTEMPTS, limit: int = 20) -> list[str]:
    """Ids of queued jobs to ring now, oldest first: not rung for `ring_after` seconds, or back from a worker.

    First takes running jobs back whose lease ran out, as `release` does with "worker-lost". At most `limit` ids, so
    that a long queue that no worker has time for is not rung as a whole again and again.
    """
    expired = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_expires_at < now())
    for job_id, attempt in session.execute(expired.with_for_update(skip_locked=True)).all():
        release(session, job_id, attempt, reason="worker-lost", max_attempts=max_attempts)
    forgotten = or_(Job.rung_at.is_(None), Job.rung_at < now(-ring_after))
    oldest = select(Job.id).where(Job.state == JobState.QUEUED, forgotten).order_by(Job.id).limit(limit)
    job_ids = session.scalars(oldest.with_for_update(skip_locked=True)).all()
    session.execute(update(Job).where(Job.id.in_(job_ids)).values(rung_at=now()))
    return list(job_ids)


def _held(attempt: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.state == JobState.RUNNING, Job.attempt == attempt)


def _ours(job: Job | None, job_id: str, attempt: int) -> Job:
    if job is None:
        raise LeaseLost(f"Attempt {attempt} of job {job_id} no longer holds it; nothing was changed.")
    return job


def _move(
    session: Session,
    verb: str,
    job_id: str,
    *guards: ColumnElement[bool],
    body: Mapping[str, Any] | None = None,
    **values: object,
) -> Job | None:
    """The job after the verb's move, with an event named after its new state; None when state or guard forbid it."""
    sources, target = MOVES[verb]
    values |= {"seconds_left": None}
    if target in FINAL:
        values |= {"finished_at": now(), "lease_owner": None, "lease_expires_at": None, "checkpoint": None}
    job = _change(session, job_id, Job.state.in_(sources), *guards, state=target, **values)
    if job is not None:
        _note(session, job, target, {"attempt": job.attempt, **(body or {})})
    return job


def _change(session: Session, job_id: str, *guards: ColumnElement[bool], **values: object) -> Job | None:
    """The job with new values and a new version; None when a guard does not hold."""
    change = update(Job).where(Job.id == job_id, *guards).values(version=Job.version + 1, **values).returning(Job)
    fresh = {"synchronize_session": False, "populate_existing": True}
    return session.scalars(change, execution_options=fresh).one_or_none()


def _note(session: Session, job: Job, kind: str, body: Mapping[str, Any]) -> None:
    session.add(JobEvent(job_id=job.id, seq=job.version, kind=kind, body=dict(body)))


def _reject_cancelled(session: Session, job: Job) -> None:
    outcomes.reject(session, job, {"code": "job-cancelled", "message": "Its check was cancelled; upload it again."})
