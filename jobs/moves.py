"""The moves of a job: guarded updates in the caller's transaction, each with its version and its event; ends are announced.

Each change a client can see raises `version`; an event's `seq` is the version it made. `control`
and `lifecycle` say when.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from jobs import webhooks
from jobs.clock import now
from jobs.errors import JobNotFound, LeaseLost
from jobs.states import FINAL, MOVES, JobState
from jobs.tables import Job, JobEvent

NOBODYS: Mapping[str, Any] = {"lease_owner": None, "lease_expires_at": None, "pause_requested": False}
"""What a job has that no worker holds."""


def add(session: Session, job: Job) -> Job:
    """The job with its first event in the table; `submission.submit` and the uploads' registries end here."""
    session.add(job)
    session.flush()
    note(session, job, job.state, {})
    return job


def locked(session: Session, job_id: str) -> Job:
    """The job of that id, which nobody else changes until the transaction ends. Raises: JobNotFound."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise JobNotFound(f"There is no job {job_id!r}.")
    return job


def held(attempt: int) -> tuple[ColumnElement[bool], ...]:
    """What holds while the job is this attempt's."""
    return (Job.state == JobState.RUNNING, Job.attempt == attempt)


def ours(job: Job | None, job_id: str, attempt: int) -> Job:
    """The job, if there is one. Raises: LeaseLost."""
    if job is None:
        raise LeaseLost(f"Attempt {attempt} of job {job_id} no longer holds it; nothing was changed.")
    return job


def move(
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
        values |= {"finished_at": now(), "checkpoint": None, **NOBODYS}
    job = change(session, job_id, Job.state.in_(sources), *guards, state=target, **values)
    if job is not None:
        note(session, job, target, {"attempt": job.attempt, **(body or {})})
        if target in FINAL:
            webhooks.announce(session, job)
    return job


def change(session: Session, job_id: str, *guards: ColumnElement[bool], **values: object) -> Job | None:
    """The job with new values and a new version; None when a guard does not hold."""
    statement = update(Job).where(Job.id == job_id, *guards).values(version=Job.version + 1, **values).returning(Job)
    fresh = {"synchronize_session": False, "populate_existing": True}
    return session.scalars(statement, execution_options=fresh).one_or_none()


def note(session: Session, job: Job, kind: str, body: Mapping[str, Any]) -> None:
    """The event that goes with the change just made is added."""
    session.add(JobEvent(job_id=job.id, seq=job.version, kind=kind, body=dict(body)))
