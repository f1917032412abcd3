"""Queries about jobs: single ones, lists, statistics, events and reports."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from faal_core.results.reading import OUTCOMES
from jobs.clock import now, seconds_between
from jobs.errors import JobCancelled, JobFailed, JobNotFound, JobStateConflict, OutcomesNotFound
from jobs.job_order import NEWEST_FIRST, newest_jobs, read_ordered_page
from jobs.paging import Page, read_bounded_rows
from jobs.states import AUDITING, CHECKS, JobKind, JobState
from jobs.tables import Dataset, Job, JobEvent, Model, Report, ReportOutcomes


def find_job(session: Session, job_id: str) -> Job:
    """Return the job of that id. Raises: JobNotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise JobNotFound(f"There is no job {job_id!r}; `GET /jobs` lists them.")
    return job


class JobFilters(TypedDict, total=False):
    """The filters of a list of jobs.

    Attributes:
        metadata: pairs of a key and a value, all of which a job must have. A job has one value for a key.
        search: a text in the job's id, in the name of its model or data set, or in a key or a value of its metadata. Only the
            newest `SEARCHED` jobs are searched.
        checks: whether checks of uploads are listed, where `kind` is not given.
    """

    status: JobState | None
    kind: JobKind | None
    model_id: str | None
    metadata: Collection[tuple[str, str]] | None
    search: str
    checks: bool
    ids: Collection[str] | None


def list_jobs(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    order: str = NEWEST_FIRST,
    **filters: Unpack[JobFilters],
) -> Page[Job]:
    """Return a page of the jobs that match every filter given, after the one of id `after`.

    Args:
        order: matches `JOB_ORDER`.

    Raises: JobNotFound where the order needs the job `after`, and it was deleted.
    """
    query = select(Job).where(*_conditions(filters))
    if search := filters.get("search"):
        query = query.where(newest_jobs(session), _matches(session, search))
    return read_ordered_page(session, query, order, after=after, limit=limit)


def _conditions(filters: JobFilters) -> list[ColumnElement[bool]]:
    """Return the conditions of all filters except `search`."""
    conditions = [
        column == value
        for column, name in ((Job.state, "status"), (Job.kind, "kind"), (Job.model_id, "model_id"))
        if (value := filters.get(name)) is not None
    ]
    if filters.get("kind") is None and not filters.get("checks", True):
        conditions.append(Job.kind.not_in(CHECKS))
    if (ids := filters.get("ids")) is not None:
        conditions.append(Job.id.in_(ids))
    pairs = filters.get("metadata") or ()
    return conditions + [Job.metadata_[name].as_string() == value for name, value in pairs]


def _matches(session: Session, search: str) -> ColumnElement[bool]:
    """Return the condition that the text is in the job's id, in a name or in the metadata, in capitals or small letters.

    On PostgreSQL the locale of the database says which letters are one letter; the locale C knows those of ASCII only.
    """
    pairs_of = func.json_each_text if session.get_bind().dialect.name == "postgresql" else func.json_each
    pair = pairs_of(Job.metadata_).table_valued("key", "value")
    in_metadata = or_(*(column.icontains(search, autoescape=True) for column in (pair.c.key, pair.c.value)))
    models = select(Model.id).where(Model.name.icontains(search, autoescape=True))
    datasets = select(Dataset.id).where(Dataset.name.icontains(search, autoescape=True))
    return or_(
        Job.id.icontains(search, autoescape=True),
        Job.model_id.in_(models),
        Job.dataset.icontains(search, autoescape=True),
        Job.dataset.in_(datasets),
        select(pair.c.key).where(in_metadata).exists(),
    )


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """Sums over the jobs of one kind and state; times in seconds."""

    kind: JobKind
    state: JobState
    jobs: int
    oldest: float  # since the first of them was submitted
    crashes: int
    outages: int
    leases_lost: int
    starts: int
    wait_seconds: float  # from submission to the start of the last attempt
    ends: int
    run_seconds: float  # from then to the end
    gpu_bytes: int | None  # the most that one of them held of a GPU's memory


def compute_statistics(session: Session) -> list[JobStatistics]:
    """Return how many jobs there are, and how long they waited and ran, by kind and state."""
    wait, run = seconds_between(Job.created_at, Job.started_at), seconds_between(Job.started_at, Job.finished_at)
    query = select(
        Job.kind,
        Job.state,
        func.count(Job.id).label("jobs"),
        func.max(seconds_between(Job.created_at, now())).label("oldest"),
        func.sum(Job.crashes).label("crashes"),
        func.sum(Job.outages).label("outages"),
        func.sum(Job.leases_lost).label("leases_lost"),
        func.count(wait).label("starts"),
        func.coalesce(func.sum(wait), 0.0).label("wait_seconds"),
        func.count(run).label("ends"),
        func.coalesce(func.sum(run), 0.0).label("run_seconds"),
        func.max(Job.gpu_bytes).label("gpu_bytes"),
    )
    return [JobStatistics(**row) for row in session.execute(query.group_by(Job.kind, Job.state)).mappings()]


def find_states(session: Session, job_ids: Collection[str]) -> dict[str, JobState]:
    """Return the states of those jobs that exist, by id."""
    rows = session.execute(select(Job.id, Job.state).where(Job.id.in_(job_ids)))
    return {row.id: row.state for row in rows}


def find_last_report(session: Session, model: Model) -> Report | None:
    """Return the newest report of that model, or else of one of the same architecture."""
    reports = select(Report).join(Job, Job.id == Report.job_id).join(Model, Model.id == Job.model_id)
    newest = reports.order_by(Report.created_at.desc()).limit(1)
    own = session.scalars(newest.where(Model.id == model.id)).first()
    same_architecture = Model.spec["architecture"].as_string() == model.spec["architecture"]
    return own or session.scalars(newest.where(same_architecture)).first()


def list_events(session: Session, job_id: str, *, after: int = 0, limit: int = 100) -> Sequence[JobEvent]:
    """Return events of a job with a `seq` above `after`, oldest first. Raises: JobNotFound."""
    find_job(session, job_id)
    return session.scalars(_event_query(job_id, after).limit(limit)).all()


def list_event_page(session: Session, job_id: str, *, after: int = 0, limit: int = 100) -> tuple[list[JobEvent], bool]:
    """Return events as `list_events` does, fewer if their bodies are large, and whether there are more. Raises: JobNotFound."""
    find_job(session, job_id)
    return read_bounded_rows(session, _event_query(job_id, after), (JobEvent.body,), limit)


def _event_query(job_id: str, after: int) -> Select[JobEvent]:
    return select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after).order_by(JobEvent.seq)


def list_newest_events(session: Session, job_id: str, kind: str, *, limit: int = 100) -> Sequence[JobEvent]:
    """Return the last events of one kind, oldest first, fewer where their bodies are large. Raises: JobNotFound."""
    find_job(session, job_id)
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == kind).order_by(JobEvent.seq.desc())
    return read_bounded_rows(session, query, (JobEvent.body,), limit)[0][::-1]


def count_events(session: Session, job_id: str) -> Mapping[str, int]:
    """Return how many events of each kind a job has. Raises: JobNotFound."""
    find_job(session, job_id)
    query = select(JobEvent.kind, func.count(JobEvent.seq).label("events")).where(JobEvent.job_id == job_id)
    return {row.kind: row.events for row in session.execute(query.group_by(JobEvent.kind))}


def find_report(session: Session, job_id: str) -> Report | None:
    """Return the report of a job; None as long as it has none, and for kinds that make none.

    The report of a cancelled audit covers its results so far; there is one only if the worker had time to write it.

    Raises: JobNotFound, JobFailed with the job's own message, JobCancelled.
    """
    job = find_job(session, job_id)
    if job.state is JobState.FAILED:
        reason = job.error["message"] if job.error is not None else "no reason was stored"
        raise JobFailed(f"Job {job_id} has no report because it failed: {reason}", job.error)
    report = session.get(Report, job_id)
    if report is None and job.state is JobState.CANCELLED:
        raise JobCancelled(f"Job {job_id} has no report because it was cancelled. Submit it again to get one.")
    return report


def require_report(session: Session, job_id: str) -> Report:
    """Return the report of a job.

    Raises: JobStateConflict while there is none, and for kinds that make none; and the errors of `find_report`.
    """
    report = find_report(session, job_id)
    if report is None:
        job = find_job(session, job_id)
        raise JobStateConflict(
            f"Job {job_id} is {job.kind} and {job.state}, and has no report. Choose a job of another kind, or wait for its end."
        )
    return report


def find_outcomes(session: Session, job_id: str, audit: Literal["before", "after"] = "after") -> ReportOutcomes:
    """Return the file with the outcomes of the images of an audit.

    Args:
        audit: audit of a fine-tuning; other jobs have only one.

    Raises: OutcomesNotFound for reports that are older than stored outcomes; JobStateConflict for kinds whose report holds no
        audit; and the errors of `require_report`.
    """
    job = find_job(session, job_id)
    if job.kind not in AUDITING:
        raise JobStateConflict(f"Job {job_id} is {job.kind}, which audits no images. Choose an audit or a fine-tuning.")
    name = OUTCOMES["audit" if job.kind is JobKind.AUDIT else audit]
    if (row := session.get(ReportOutcomes, (job_id, name))) is not None:
        return row
    require_report(session, job_id)
    raise OutcomesNotFound(
        f"The report of job {job_id} was written before FAAL stored the outcome of each image. Audit the model again."
    )
