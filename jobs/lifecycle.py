"""What workers do with a job, from claim to end, in the caller's transaction (`with sessions.begin() as session`).

A claim raises `attempt`, and every later write of that worker names the attempt it holds: whoever lost the lease
changes nothing and gets LeaseLost.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import ColumnElement, Select, false, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from faal_core.errors import OutOfTime
from jobs import moves, outcomes
from jobs.clock import now, seconds_between
from jobs.outcomes import StoredClassifier
from jobs.settings import MAX_ATTEMPTS
from jobs.states import CHECKS, Crash, JobState, Outage, ReleaseReason
from jobs.storage import Stored
from jobs.tables import Job, Problem

MAX_OUTAGES = 20  # of one job; the delays between them add up to 70 minutes
_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = (
    5.0,
    300.0,
)  # before the next attempt after an outage; it doubles with each outage

_GIVEN_UP: Mapping[ReleaseReason, str] = {
    "worker-lost": "The worker died {crashes} times while it ran this job. Submit it again; if that does not help, "
    "look for attempt {attempt} of the job in the worker's log.",
    "out-of-memory": "The system stopped this job {crashes} times because memory ran out. Ask for less at once "
    "(a smaller batch size, a smaller upload), or run a worker with more memory.",
    "database-unavailable": "Outages ended {outages} attempts of this job. The last one: the database could not be reached. "
    "Try the job again when `/readyz` reports that the database works.",
    "store-unavailable": "Outages ended {outages} attempts of this job. The last one: the object store failed. "
    "Try the job again when `/readyz` reports that the storage works.",
    "storage-full": "Outages ended {outages} attempts of this job. The last one: there was no room for its files. "
    "Free some space on the worker's disk and in storage, then try the job again.",
}

_EXPIRED = (Job.attempt == 0) & Job.deadline.is_not(None) & (Job.deadline < now())
"""Whether a job's deadline came before a worker had begun it; one that was begun ends with what it has."""


_GROUP = {"is_check": Job.kind.in_(CHECKS), "priority": Job.priority, "owner": Job.owner}
"""The columns by which waiting jobs are grouped. Of the jobs of a group, the oldest is taken first."""


def claim_next(session: Session, *, worker: str, lease_seconds: float, pool: str | None = None) -> Job | None:
    """Claim the job whose turn it is and return it; None when no job waits.

    The check of an upload comes first, unless the owner's last job was a check too. Then come jobs of higher priority. Among
    equals the turn is that of the owner with the fewest running jobs, then of the owner whose last job began the longest time
    ago; of that owner's jobs checks come first, then the oldest. So an owner with one job waits for at most one check and one
    job of each other owner, however many jobs these have submitted.

    Args:
        pool: the worker's pool: the worker takes jobs that ask for it, and jobs that ask for no pool.
    """
    in_pool = Job.pool.is_(None) if pool is None else or_(Job.pool.is_(None), Job.pool == pool)
    delayed = Job.not_before.is_not(None) & (Job.not_before > now())
    waiting = (Job.state == JobState.QUEUED, in_pool, ~_EXPIRED, ~delayed)
    for turn in session.execute(_turns(waiting)).mappings():
        theirs = select(Job.id).where(*waiting, *(column == turn[name] for name, column in _GROUP.items()))
        first = theirs.order_by(Job.id).limit(1).with_for_update(skip_locked=True)
        if (job_id := session.scalars(first).one_or_none()) is not None:  # else other workers are taking all of these
            return claim(session, job_id, worker=worker, lease_seconds=lease_seconds)
    return None


def release_unbegun(session: Session, worker: str, *, max_attempts: int) -> None:
    """Give back jobs that an idle worker holds: it claimed them, but the database's answer to that was lost."""
    held = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_owner == worker)
    for job_id, attempt in session.execute(held.with_for_update(skip_locked=True)).all():
        release(session, job_id, attempt, reason="database-unavailable", max_attempts=max_attempts)


def _turns(waiting: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Return the query of the groups of waiting jobs, in the order in which workers take from them."""
    columns: list[Any] = [column.label(name) for name, column in _GROUP.items()]
    groups = select(*columns, func.min(Job.id).label("first")).where(*waiting).group_by(*columns).subquery()
    running = (
        select(Job.owner, func.count().label("jobs"))
        .where(Job.state == JobState.RUNNING)
        .group_by(Job.owner)
        .subquery()
    )
    last = aliased(Job)
    of_owner = select(last.started_at).where(last.owner == groups.c.owner, last.started_at.is_not(None))
    newest = of_owner.order_by(last.started_at.desc()).limit(1)
    last_began = newest.scalar_subquery()
    last_was_check = newest.with_only_columns(last.kind.in_(CHECKS)).scalar_subquery()
    return (
        select(groups)
        .outerjoin(running, running.c.owner == groups.c.owner)
        .order_by(
            (groups.c.is_check & ~func.coalesce(last_was_check, false())).desc(),
            groups.c.priority.desc(),
            func.coalesce(running.c.jobs, 0),
            last_began.asc().nulls_first(),
            groups.c.is_check.desc(),
            groups.c.first,
        )
    )


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
        not_before=None,
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
    """Give back a job that has not ended, and return its new state: queued for the next worker as a rule.

    The job is cancelled or paused if that was asked for. It fails with `reason` as code after `max_attempts` crashes, or
    after `MAX_OUTAGES` outages. After an outage no worker takes it for a while. Raises: LeaseLost.
    """
    job = hold(session, job_id, attempt)
    if job.cancel_requested:
        return cancel(session, job_id, attempt).state
    if job.pause_requested:
        return moves.ours(
            moves.move(session, "set-aside", job_id, *moves.held(attempt), **moves.NOBODYS), job_id, attempt
        ).state
    values: dict[str, Any] = dict(moves.NOBODYS)
    if reason in get_args(Crash):
        job.crashes += 1
    elif reason in get_args(Outage):
        values["not_before"] = now(min(_DELAY_SECONDS * 2**job.outages, _LONGEST_DELAY_SECONDS))
        job.outages += 1
    if reason != "worker-stopped" and (job.crashes >= max_attempts or job.outages >= MAX_OUTAGES):
        message = _GIVEN_UP[reason].format(crashes=job.crashes, outages=job.outages, attempt=attempt)
        return fail(session, job_id, attempt, code=reason, message=message).state
    released = moves.move(session, "release", job_id, *moves.held(attempt), body={"reason": reason}, **values)
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


def take_back(session: Session, *, max_attempts: int = MAX_ATTEMPTS) -> list[str]:
    """Release running jobs whose lease ran out, as "worker-lost", and return their ids."""
    expired = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_expires_at < now())
    lost = session.execute(expired.with_for_update(skip_locked=True)).all()
    for job_id, attempt in lost:
        hold(session, job_id, attempt).leases_lost += 1
        release(session, job_id, attempt, reason="worker-lost", max_attempts=max_attempts)
    return [job_id for job_id, _ in lost]


def expire(session: Session) -> None:
    """Fail the waiting jobs that no worker had begun when their deadline came."""
    late = select(Job.id).where(Job.state == JobState.QUEUED, _EXPIRED)
    for job_id in session.scalars(late.with_for_update(skip_locked=True)).all():
        problem: Problem = {"code": OutOfTime.code, "message": "No worker had begun this job when its deadline came."}
        moves.move(session, "expire", job_id, body=problem, error=problem)
