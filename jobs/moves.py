"""The state changes of a job: guarded updates in the caller's transaction, each with its version and its event.

Each change a client can see raises `version`; an event's `seq` is the version it made. The end of a job is announced to its
owner's webhooks. `control` and `lifecycle` call these functions.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, delete, update
from sqlalchemy.orm import Session

from jobs import webhooks
from jobs.clock import now
from jobs.errors import JobNotFound, LeaseLost
from jobs.sharing_tables import SharedAudit, SharedBatch, delete_batches
from jobs.states import FINAL, MOVES, JobState
from jobs.tables import Job, JobEvent

NO_LEASE: Mapping[str, Any] = {"lease_owner": None, "lease_expires_at": None, "pause_requested": False}
"""The values of a job that no worker holds."""


def add_job(session: Session, job: Job) -> Job:
    """Insert the job with its first event, and return it; `submission.submit` and the uploads' registries call this."""
    session.add(job)
    session.flush()
    add_event(session, job, job.state, {})
    return job


def lock_job(session: Session, job_id: str) -> Job:
    """Return the job of that id, which no other transaction changes until this one ends. Raises: JobNotFound."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise JobNotFound(f"There is no job {job_id!r}; `GET /jobs` lists them.")
    return job


def lease_guards(attempt: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which this attempt holds the job."""
    return (Job.state == JobState.RUNNING, Job.attempt == attempt)


def require_lease(job: Job | None, job_id: str, attempt: int) -> Job:
    """Return the job. Raises: LeaseLost where there is none."""
    if job is None:
        raise LeaseLost(f"Attempt {attempt} of job {job_id} has lost its lease; nothing was changed.")
    return job


def move(
    session: Session,
    verb: str,
    job_id: str,
    *guards: ColumnElement[bool],
    body: Mapping[str, Any] | None = None,
    **values: object,
) -> Job | None:
    """Change the job's state by the verb, with an event named after the new state, and return the job.

    None when the job's state or a guard does not allow the verb: then nothing has changed.
    """
    sources, target = MOVES[verb]
    values |= {"seconds_left": None, "helpers": 0}
    if target in FINAL:
        values |= {"finished_at": now(), "checkpoint": None, **NO_LEASE}
    job = update_job(session, job_id, Job.state.in_(sources), *guards, state=target, **values)
    if job is not None:
        add_event(session, job, target, {"attempt": job.attempt, **(body or {})})
        if target in FINAL:
            delete_batches(session, SharedBatch.job_id == job_id)
            session.execute(delete(SharedAudit).where(SharedAudit.job_id == job_id))
            webhooks.announce(session, job)
    return job


def update_job(session: Session, job_id: str, *guards: ColumnElement[bool], **values: object) -> Job | None:
    """Give the job new values and a new version, and return it; None when a guard does not hold."""
    statement = update(Job).where(Job.id == job_id, *guards).values(version=Job.version + 1, **values).returning(Job)
    fresh = {"synchronize_session": False, "populate_existing": True}
    return session.scalars(statement, execution_options=fresh).one_or_none()


def add_event(session: Session, job: Job, kind: str, body: Mapping[str, Any]) -> None:
    """Add the event of the change that was just made."""
    session.add(JobEvent(job_id=job.id, seq=job.version, kind=kind, body=dict(body)))
