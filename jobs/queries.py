"""What can be asked about jobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from jobs.clock import now, seconds_between
from jobs.errors import JobCancelled, JobFailed, JobNotFound
from jobs.paging import Page, bounded_rows, page
from jobs.states import JobKind, JobState
from jobs.tables import Job, JobEvent, Model, Report


def job(session: Session, job_id: str) -> Job:
    """The job of that id. Raises: JobNotFound."""
    found = session.get(Job, job_id)
    if found is None:
        raise JobNotFound(f"There is no job {job_id!r}; `GET /jobs` lists them.")
    return found


def list_jobs(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    status: JobState | None = None,
    kind: JobKind | None = None,
    model_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Page[Job]:
    """A page of jobs, newest first, after the one of id `after`; only those that fit every filter given."""
    query = select(Job)
    if status is not None:
        query = query.where(Job.state == status)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if model_id is not None:
        query = query.where(Job.model_id == model_id)
    for name, value in (metadata or {}).items():
        query = query.where(Job.metadata_[name].as_string() == value)
    return page(session, query, Job.id, after=after, limit=limit, document=Job.spec)


@dataclass(frozen=True, slots=True)
class Figures:
    """The jobs of one kind and state together; times in seconds."""

    kind: JobKind
    state: JobState
    jobs: int
    oldest: float  # since the first of them was submitted
    crashes: int
    outages: int
    leases_lost: int
    started: int
    waited: float  # from submission to the start of the last attempt
    ended: int
    ran: float  # from then to the end
    gpu_bytes: int | None  # the most that one of them held of a GPU's memory


def figures(session: Session) -> list[Figures]:
    """How many jobs there are, how long they waited and ran, by kind and state."""
    waited, ran = seconds_between(Job.created_at, Job.started_at), seconds_between(Job.started_at, Job.finished_at)
    query = select(
        Job.kind,
        Job.state,
        func.count(Job.id).label("jobs"),
        func.max(seconds_between(Job.created_at, now())).label("oldest"),
        func.sum(Job.crashes).label("crashes"),
        func.sum(Job.outages).label("outages"),
        func.sum(Job.leases_lost).label("leases_lost"),
        func.count(waited).label("started"),
        func.coalesce(func.sum(waited), 0.0).label("waited"),
        func.count(ran).label("ended"),
        func.coalesce(func.sum(ran), 0.0).label("ran"),
        func.max(Job.gpu_bytes).label("gpu_bytes"),
    )
    return [Figures(**row) for row in session.execute(query.group_by(Job.kind, Job.state)).mappings()]


def states(session: Session, job_ids: Collection[str]) -> dict[str, JobState]:
    """The states of those jobs that there are."""
    found = session.execute(select(Job.id, Job.state).where(Job.id.in_(job_ids)))
    return {row.id: row.state for row in found}


def last_report(session: Session, model: Model) -> Report | None:
    """The newest report of that model, or else of one of the same architecture."""
    made = select(Report).join(Job, Job.id == Report.job_id).join(Model, Model.id == Job.model_id)
    newest = made.order_by(Report.created_at.desc()).limit(1)
    own = session.scalars(newest.where(Model.id == model.id)).first()
    alike = Model.spec["architecture"].as_string() == model.spec["architecture"]
    return own or session.scalars(newest.where(alike)).first()


def events(session: Session, job_id: str, *, after: int = 0, limit: int = 100) -> Sequence[JobEvent]:
    """Return events of a job with a `seq` above `after`, oldest first. Raises: JobNotFound."""
    job(session, job_id)
    return session.scalars(_events(job_id, after).limit(limit)).all()


def event_page(session: Session, job_id: str, *, after: int = 0, limit: int = 100) -> tuple[list[JobEvent], bool]:
    """Return events as `events` does, fewer where their bodies are large, and whether there are more. Raises: JobNotFound."""
    job(session, job_id)
    return bounded_rows(session, _events(job_id, after), JobEvent.body, limit)


def _events(job_id: str, after: int) -> Select[JobEvent]:
    return select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after).order_by(JobEvent.seq)


def newest_events(session: Session, job_id: str, kind: str, *, limit: int = 100) -> Sequence[JobEvent]:
    """Return the last events of one kind, oldest first, fewer where their bodies are large. Raises: JobNotFound."""
    job(session, job_id)
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == kind).order_by(JobEvent.seq.desc())
    return bounded_rows(session, query, JobEvent.body, limit)[0][::-1]


def event_counts(session: Session, job_id: str) -> Mapping[str, int]:
    """Return how many events of each kind a job has. Raises: JobNotFound."""
    job(session, job_id)
    query = select(JobEvent.kind, func.count(JobEvent.seq).label("events")).where(JobEvent.job_id == job_id)
    return {row.kind: row.events for row in session.execute(query.group_by(JobEvent.kind))}


def report(session: Session, job_id: str) -> Report | None:
    """The report of a job; None as long as it has none, and for kinds that make none.

    That of a cancelled audit is of what it had found, where it had time to write one.

    Raises: JobNotFound, JobFailed with the job's own message, JobCancelled.
    """
    found = job(session, job_id)
    if found.state is JobState.FAILED:
        reason = found.error["message"] if found.error is not None else "no reason was stored"
        raise JobFailed(f"Job {job_id} has no report because it failed: {reason}", found.error)
    stored = session.get(Report, job_id)
    if stored is None and found.state is JobState.CANCELLED:
        raise JobCancelled(f"Job {job_id} has no report because it was cancelled; submit it again to get one.")
    return stored
