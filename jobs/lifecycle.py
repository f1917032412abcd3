"""What workers do with a job, from claim to end, in the caller's transaction (`with sessions.begin() as session`).

A claim raises `attempt`, and every later write of that worker names the attempt it holds: whoever lost the lease
changes nothing and gets LeaseLost.
"""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from faal_core.errors import OutOfTime
from jobs import moves, outcomes
from jobs.clock import now, seconds_between
from jobs.outcomes import StoredClassifier
from jobs.settings import MAX_ATTEMPTS
from jobs.states import JobState, ReleaseReason
from jobs.storage import Stored
from jobs.tables import Job, Problem

_GIVEN_UP: Mapping[ReleaseReason, str] = {
    "worker-lost": "The worker died {crashes} times while it ran this job. Submit it again; if that does not help, "
    "look for attempt {attempt} of the job in the worker's log.",
    "out-of-memory": "The system stopped this job {crashes} times because memory ran out. Ask for less at once "
    "(a smaller batch size, a smaller upload), or run a worker with more memory.",
    "store-unavailable": "The object store failed {crashes} times while this job needed it. Try the job again when `/readyz` "
    "says that storage works.",
}

_EXPIRED = (Job.attempt == 0) & Job.deadline.is_not(None) & (Job.deadline < now())
"""Whether a job's deadline came before a worker had begun it; one that was begun ends with what it has."""


def _may_go_to(pool: str | None) -> ColumnElement[bool]:
    """Whether a job may go to a worker of that pool, or of none."""
    return Job.pool.is_(None) if pool is None else or_(Job.pool.is_(None), Job.pool == pool)


def claim_next(session: Session, *, worker: str, lease_seconds: float, pool: str | None = None) -> Job | None:
    """The waiting job of the highest priority, of equals the oldest, claimed; None when none is to be had.

    Args:
        pool: which the worker belongs to: it takes jobs that ask for it, and those that ask for none.
    """
    waiting = select(Job.id).where(Job.state == JobState.QUEUED, _may_go_to(pool), ~_EXPIRED)
    first = waiting.order_by(Job.priority.desc(), Job.id).limit(1)
    job_id = session.scalars(first.with_for_update(skip_locked=True)).one_or_none()
    return None if job_id is None else claim(session, job_id, worker=worker, lease_seconds=lease_seconds)


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float) -> Job | None:
    """The job with a new attempt, leased to `worker`; None when it is not queued: another took it, or it ended."""
    return moves.move(
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
    lease = update(Job).where(Job.id == job_id, *moves.held(attempt)).values(lease_expires_at=now(lease_seconds))
    return session.scalars(lease.returning(Job.id)).one_or_none() is not None


def stop_requested(session: Session, job_id: str, attempt: int) -> bool:
    """Whether this attempt of the job shall stop: to be cancelled, or paused."""
    asked = select(or_(Job.cancel_requested, Job.pause_requested)).where(Job.id == job_id, *moves.held(attempt))
    return bool(session.scalars(asked).one_or_none())


def hold(session: Session, job_id: str, attempt: int) -> Job:
    """The job, which stays this attempt's until the transaction ends. Raises: LeaseLost."""
    held = select(Job).where(Job.id == job_id, *moves.held(attempt)).with_for_update()
    return moves.ours(session.scalars(held.execution_options(populate_existing=True)).one_or_none(), job_id, attempt)


def seconds_allowed(session: Session, job: Job) -> float:
    """Seconds that are left of the job's budget and until its deadline; infinite where it has neither."""
    left = [] if job.budget_minutes is None else [60 * job.budget_minutes - job.seconds_run]
    if job.deadline is not None:
        left += session.scalars(select(seconds_between(now(), Job.deadline)).where(Job.id == job.id)).all()
    return min(left, default=math.inf)


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
    seconds_run: float | None = None,
    gpu_bytes: int | None = None,
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
    measured = {"seconds_run": seconds_run, "gpu_bytes": gpu_bytes}
    values |= {name: value for name, value in measured.items() if value is not None}
    job = moves.ours(moves.change(session, job_id, *moves.held(attempt), **values), job_id, attempt)
    if event is not None:
        moves.note(session, job, *event)
    return job


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    report: str | None = None,
    result_model: StoredClassifier | None = None,
    summary: Mapping[str, Any] | None = None,
    trained: Stored | None = None,
    finding: Mapping[str, Any] | None = None,
) -> Job:
    """The job succeeded, with its results in the same transaction: a report, a classifier, a data set's summary.

    Args:
        trained: a fine-tuning's best epoch, of which its candidates can be made later.
        finding: a fine-tuning's outcome, and how many accuracies fell, as its report has them.

    Which of them a kind of job ends with stands in `outcomes`. Raises: LeaseLost.
    """
    job = moves.ours(moves.move(session, "succeed", job_id, *moves.held(attempt)), job_id, attempt)
    outcomes.keep(
        session, job, report=report, result_model=result_model, summary=summary, trained=trained, finding=finding
    )
    return job


def fail(session: Session, job_id: str, attempt: int, *, code: str, message: str) -> Job:
    """The job failed with that error; an upload it was checking is rejected. Raises: LeaseLost."""
    problem: Problem = {"code": code, "message": message}
    job = moves.ours(
        moves.move(session, "fail", job_id, *moves.held(attempt), body=problem, error=problem), job_id, attempt
    )
    outcomes.reject(session, job, problem)
    return job


def release(
    session: Session, job_id: str, attempt: int, *, reason: ReleaseReason, max_attempts: int = MAX_ATTEMPTS
) -> JobState:
    """The state of a job that its worker gave up without an end: queued for the next worker as a rule.

    It is cancelled or paused if that was asked for, and failed with `reason` as code when this was crash number
    `max_attempts`; a graceful stop ("worker-stopped") is no crash. Raises: LeaseLost.
    """
    job = hold(session, job_id, attempt)
    if job.cancel_requested:
        return cancel(session, job_id, attempt).state
    if job.pause_requested:
        return moves.ours(
            moves.move(session, "set-aside", job_id, *moves.held(attempt), **moves.NOBODYS), job_id, attempt
        ).state
    if reason != "worker-stopped":
        job.crashes += 1
        if job.crashes >= max_attempts:
            message = _GIVEN_UP[reason].format(crashes=job.crashes, attempt=attempt)
            return fail(session, job_id, attempt, code=reason, message=message).state
    released = moves.move(session, "release", job_id, *moves.held(attempt), body={"reason": reason}, **moves.NOBODYS)
    return moves.ours(released, job_id, attempt).state


def cancel(session: Session, job_id: str, attempt: int, *, report: str | None = None) -> Job:
    """The running job, cancelled by its worker, with a report of what was found until then where there is one.

    An upload it was checking is rejected. Raises: LeaseLost.
    """
    job = moves.ours(moves.move(session, "cancel", job_id, *moves.held(attempt)), job_id, attempt)
    if report is not None:
        outcomes.keep_report(session, job, report)
    outcomes.reject_cancelled(session, job)
    return job


def overdue(
    session: Session, *, ring_after: float, max_attempts: int = MAX_ATTEMPTS, limit: int = 20, pool: str | None = None
) -> dict[str, str | None]:
    """Queued jobs to ring now, oldest first, with their pools: not rung for `ring_after` seconds, or back from a worker.

    First takes running jobs back whose lease ran out, as `release` does with "worker-lost", counting such leases, and ends those
    that no worker had begun when their deadline came. At most `limit` ids, so that a long queue that no worker has time for is
    not rung as a whole again and again.

    Args:
        pool: only jobs that a worker of this one may take.
    """
    expired = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_expires_at < now())
    for job_id, attempt in session.execute(expired.with_for_update(skip_locked=True)).all():
        hold(session, job_id, attempt).leases_lost += 1
        release(session, job_id, attempt, reason="worker-lost", max_attempts=max_attempts)
    late = select(Job.id).where(Job.state == JobState.QUEUED, _EXPIRED)
    for job_id in session.scalars(late.with_for_update(skip_locked=True)).all():
        problem: Problem = {"code": OutOfTime.code, "message": "No worker had begun this job when its deadline came."}
        moves.move(session, "expire", job_id, body=problem, error=problem)
    forgotten = or_(Job.rung_at.is_(None), Job.rung_at < now(-ring_after))
    waiting = select(Job.id, Job.pool).where(Job.state == JobState.QUEUED, _may_go_to(pool), forgotten)
    rung = session.execute(waiting.order_by(Job.id).limit(limit).with_for_update(skip_locked=True)).all()
    pools = {row.id: row.pool for row in rung}
    session.execute(update(Job).where(Job.id.in_(pools)).values(rung_at=now()))
    return pools
