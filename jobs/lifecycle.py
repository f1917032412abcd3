"""The steps of workers and sweeps with a job, from claim to end, in the caller's transaction (`with sessions.begin() as …`).

A claim raises `attempt`, and every later write of that worker names its attempt: a worker that lost the lease changes
nothing and gets LeaseLost.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from faal_core.errors import OutOfTime
from jobs import moves, results, turns
from jobs.clock import now, seconds_between
from jobs.results import StoredClassifier
from jobs.settings import MAX_ATTEMPTS
from jobs.states import Crash, JobState, Outage, ReleaseReason
from jobs.storage import StoredFile
from jobs.tables import Job, Problem

MAX_OUTAGES = 20  # of one job; the delays between them add up to 70 minutes
# Before the next attempt after an outage; the delay doubles with each outage.
_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 5.0, 300.0

_FAILURE_MESSAGES: Mapping[ReleaseReason, str] = {
    "worker-lost": "The worker died {crashes} times while it ran this job. Submit the job again. If that does not help, "
    "look for attempt {attempt} of the job in the worker's log.",
    "out-of-memory": "The system stopped this job {crashes} times because memory ran out. Use a smaller batch size or a "
    "smaller upload, or run a worker with more memory.",
    "database-unavailable": "Outages ended {outages} attempts of this job. The last one: the database could not be reached. "
    "Retry the job when `/readyz` reports that the database works.",
    "store-unavailable": "Outages ended {outages} attempts of this job. The last one: the object store failed. "
    "Retry the job when `/readyz` reports that the storage works.",
    "storage-full": "Outages ended {outages} attempts of this job. The last one: there was no room for its files. "
    "Free some space on the worker's disk and in storage, then retry the job.",
}


def claim_next(session: Session, *, worker: str, lease_seconds: float, pool: str | None = None) -> Job | None:
    """Claim the job whose turn it is and return it; None when no job waits.

    A short job (the check of an upload, or a comparison) comes first, unless the owner's last job was short too. Then come
    jobs of higher priority. Among equals the turn is that of the owner with the fewest running jobs, then of the owner whose
    last job began the longest time ago; of that owner's jobs short ones come first, then the oldest. So an owner with one job
    waits for at most one short job and one other job of each other owner, however many jobs these have submitted.

    Args:
        pool: the worker's pool: the worker takes jobs that ask for it, and jobs that ask for no pool.
    """
    waiting = turns.waiting(pool)
    for turn in session.execute(turns.order_turns(waiting)).mappings():
        group = select(Job.id).where(*waiting, *(column == turn[name] for name, column in turns.COLUMNS.items()))
        first = group.order_by(Job.id).limit(1).with_for_update(skip_locked=True)
        job_id = session.scalars(first).one_or_none()
        if job_id is not None:  # else other workers are claiming the whole group
            return claim(session, job_id, worker=worker, lease_seconds=lease_seconds)
    return None


def release_unstarted(session: Session, worker: str, *, max_attempts: int) -> None:
    """Release the jobs that an idle worker holds: it claimed them, but the database's answer to that was lost."""
    leased = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_owner == worker)
    for job_id, attempt in session.execute(leased.with_for_update(skip_locked=True)).all():
        release(session, job_id, attempt, reason="database-unavailable", max_attempts=max_attempts)


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float) -> Job | None:
    """Give the job a new attempt, leased to `worker`, and return it; None when it is not queued: another took it, or it ended."""
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
    """Let the lease of this attempt end `lease_seconds` from now, and return whether the attempt still holds the job."""
    lease = (
        update(Job).where(Job.id == job_id, *moves.lease_guards(attempt)).values(lease_expires_at=now(lease_seconds))
    )
    return session.scalars(lease.returning(Job.id)).one_or_none() is not None


def is_stop_requested(session: Session, job_id: str, attempt: int) -> bool:
    """Return whether this attempt of the job is to stop: to be cancelled, or paused."""
    request = select(or_(Job.cancel_requested, Job.pause_requested)).where(
        Job.id == job_id, *moves.lease_guards(attempt)
    )
    return bool(session.scalars(request).one_or_none())


def lock_leased_job(session: Session, job_id: str, attempt: int) -> Job:
    """Return the job, which no other transaction changes until this one ends. Raises: LeaseLost."""
    leased = select(Job).where(Job.id == job_id, *moves.lease_guards(attempt)).with_for_update()
    job = session.scalars(leased.execution_options(populate_existing=True)).one_or_none()
    return moves.require_lease(job, job_id, attempt)


def seconds_allowed(session: Session, job: Job) -> float:
    """Return the seconds that are left of the job's budget and until its deadline; infinite where it has neither."""
    limits = [] if job.budget_minutes is None else [60 * job.budget_minutes - job.seconds_run]
    if job.deadline is not None:
        limits += session.scalars(select(seconds_between(now(), Job.deadline)).where(Job.id == job.id)).all()
    return min(limits, default=math.inf)


def record_checkpoint(session: Session, job_id: str, attempt: int, files: Mapping[str, str]) -> None:
    """Store the files that the next attempt resumes from: name → digest in the job's own storage. Raises: LeaseLost."""
    lock_leased_job(session, job_id, attempt).checkpoint = dict(files)


def record_progress(
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
    """Store the job's progress, and an event (kind and body) where one is given, and return the job.

    A new stage starts at 0, and its remaining time is unknown unless `seconds_left` is given.

    Raises: LeaseLost.
    """
    progress = {"stage": stage, "done": done, "total": total, "seconds_left": seconds_left}
    values: dict[str, Any] = {name: value for name, value in progress.items() if value is not None}
    if stage is not None:
        values = progress | {"done": done or 0}
    measured = {"seconds_run": seconds_run, "gpu_bytes": gpu_bytes}
    values |= {name: value for name, value in measured.items() if value is not None}
    job = moves.require_lease(
        moves.update_job(session, job_id, *moves.lease_guards(attempt), **values), job_id, attempt
    )
    if event is not None:
        moves.add_event(session, job, *event)
    return job


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    report: str | None = None,
    outcomes: Mapping[str, StoredFile] = MappingProxyType({}),
    result_model: StoredClassifier | None = None,
    summary: Mapping[str, Any] | None = None,
    trained: StoredFile | None = None,
    finding: Mapping[str, Any] | None = None,
) -> Job:
    """End the job as succeeded, store its results in the same transaction, and return the job.

    `results.RESULTS` says which results each kind of job ends with. Raises: LeaseLost.

    Args:
        outcomes: files with the outcomes of the images of each audit in the report, by name.
        trained: a fine-tuning's best epoch, from which its candidates can be made later.
        finding: a fine-tuning's outcome, and how many accuracies fell, as in its report.
    """
    job = moves.require_lease(moves.move(session, "succeed", job_id, *moves.lease_guards(attempt)), job_id, attempt)
    results.store_results(
        session,
        job,
        report=report,
        outcomes=outcomes,
        result_model=result_model,
        summary=summary,
        trained=trained,
        finding=finding,
    )
    return job


def fail(session: Session, job_id: str, attempt: int, *, code: str, message: str) -> Job:
    """End the job as failed with that error, reject an upload it was checking, and return the job. Raises: LeaseLost."""
    problem: Problem = {"code": code, "message": message}
    job = moves.require_lease(
        moves.move(session, "fail", job_id, *moves.lease_guards(attempt), body=problem, error=problem), job_id, attempt
    )
    results.reject_upload(session, job, problem)
    return job


def release(
    session: Session, job_id: str, attempt: int, *, reason: ReleaseReason, max_attempts: int = MAX_ATTEMPTS
) -> JobState:
    """Release a job that has not ended, and return its new state: usually queued, for the next worker.

    The job is cancelled or paused if that was requested. It fails with `reason` as code after `max_attempts` crashes, or
    after `MAX_OUTAGES` outages. After an outage no worker claims it for a while. Raises: LeaseLost.
    """
    job = lock_leased_job(session, job_id, attempt)
    if job.cancel_requested:
        return cancel_running(session, job_id, attempt).state
    if job.pause_requested:
        return moves.require_lease(
            moves.move(session, "pause-running", job_id, *moves.lease_guards(attempt), **moves.NO_LEASE),
            job_id,
            attempt,
        ).state
    values: dict[str, Any] = dict(moves.NO_LEASE)
    if reason in get_args(Crash):
        job.crashes += 1
    elif reason in get_args(Outage):
        values["not_before"] = now(min(_DELAY_SECONDS * 2**job.outages, _LONGEST_DELAY_SECONDS))
        job.outages += 1
    if reason != "worker-stopped" and (job.crashes >= max_attempts or job.outages >= MAX_OUTAGES):
        message = _FAILURE_MESSAGES[reason].format(crashes=job.crashes, outages=job.outages, attempt=attempt)
        return fail(session, job_id, attempt, code=reason, message=message).state
    queued = moves.move(session, "release", job_id, *moves.lease_guards(attempt), body={"reason": reason}, **values)
    return moves.require_lease(queued, job_id, attempt).state


def cancel_running(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    report: str | None = None,
    outcomes: Mapping[str, StoredFile] = MappingProxyType({}),
) -> Job:
    """Cancel the running job for its worker, with a report of the results so far if there is one, and return the job.

    An upload it was checking is rejected. Raises: LeaseLost.

    Args:
        outcomes: as for `succeed`.
    """
    job = moves.require_lease(
        moves.move(session, "cancel-running", job_id, *moves.lease_guards(attempt)), job_id, attempt
    )
    if report is not None:
        results.store_report(session, job, report, outcomes)
    results.reject_cancelled_upload(session, job)
    return job


def take_back(session: Session, *, max_attempts: int = MAX_ATTEMPTS) -> list[str]:
    """Release running jobs whose lease has expired, as "worker-lost", and return their ids."""
    expired = select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING, Job.lease_expires_at < now())
    leases = session.execute(expired.with_for_update(skip_locked=True)).all()
    for job_id, attempt in leases:
        lock_leased_job(session, job_id, attempt).leases_lost += 1
        release(session, job_id, attempt, reason="worker-lost", max_attempts=max_attempts)
    return [job_id for job_id, _ in leases]


def fail_overdue(session: Session) -> None:
    """Fail the waiting jobs that no worker started before their deadline."""
    overdue = select(Job.id).where(Job.state == JobState.QUEUED, turns.OVERDUE)
    for job_id in session.scalars(overdue.with_for_update(skip_locked=True)).all():
        message = "No worker started this job before its deadline. Submit it again with a later deadline."
        problem: Problem = {"code": OutOfTime.code, "message": message}
        moves.move(session, "expire", job_id, body=problem, error=problem)
