"""Studies: fine-tunings of one model by several methods with several seeds, submitted, followed and cancelled together.

Each fine-tuning is an ordinary job, with the study's id in its metadata. A job that is retried is replaced by the new one
(`jobs.control.retry`).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from faal_core.errors import InvalidSpec
from jobs import control
from jobs.errors import QuotaExceeded, StudyNotFound
from jobs.idempotency import create_once, payload_digest
from jobs.paging import Page, read_page
from jobs.quotas import lock_owner, require_room_for_job
from jobs.settings import Settings
from jobs.states import FINAL, JobKind, JobState
from jobs.study_tables import Study, StudyRun
from jobs.submission import Submission, check, submit
from jobs.tables import Job, Report

MOST_STUDIES = 100  # of one owner
MOST_METHODS = MOST_SEEDS = 10
MOST_JOBS = 30  # of one study; a request for its table reads all of their reports
MOST_CHARACTERS = 128 * 2**20  # of these reports together; to parse them takes seconds
METADATA_KEY = "study"  # of the pair with the study's id, in the metadata of its jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStudy:
    """A study to be added.

    Args:
        methods: method specs, as JSON.
        fine_tunings: one for each method and seed, in the order of the methods, and within a method of the seeds.
    """

    name: str
    methods: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    fine_tunings: Sequence[Submission]
    idempotency_key: str | None = None

    @property
    def payload_sha256(self) -> str:
        """Return the digest of the request, by which a repeated idempotency key is compared."""
        return payload_digest({"name": self.name, "jobs": [one.payload_sha256 for one in self.fine_tunings]})


def add_study(session: Session, settings: Settings, new: NewStudy) -> Study:
    """Add a study, queue all of its jobs, and return it, or the study that its idempotency key created before.

    Ring for each job after the commit. Raises: QuotaExceeded for the studies or for all jobs together; the errors of
        `submission.submit`.
    """
    first = new.fine_tunings[0]
    owner, count = first.owner, len(new.fine_tunings)

    def create() -> Study:
        check(session, settings, first)  # before the row that refers to the model
        lock_owner(session, owner)
        used = session.scalars(select(func.count(Study.id)).where(Study.owner == owner)).one()
        if used >= MOST_STUDIES:
            raise QuotaExceeded("studies", MOST_STUDIES, used)
        require_room_for_job(session, owner, JobKind.FINETUNE, settings.quota, count=count)
        study = Study(
            owner=owner,
            name=new.name,
            model_id=first.model_id,
            dataset=first.dataset,
            methods=[dict(method) for method in new.methods],
            seeds=list(new.seeds),
            idempotency_key=new.idempotency_key,
            payload_sha256=new.payload_sha256,
        )
        session.add(study)
        session.flush()
        places = product(range(len(new.methods)), new.seeds)
        for (method, seed), fine_tuning in zip(places, new.fine_tunings, strict=True):
            metadata = {**fine_tuning.metadata, METADATA_KEY: study.id}
            job = submit(session, settings, replace(fine_tuning, metadata=metadata))
            session.add(StudyRun(study_id=study.id, method=method, seed=seed, owner=owner, job_id=job.id))
        session.flush()
        return study

    key, digest = new.idempotency_key, new.payload_sha256
    return create_once(session, Study, owner=owner, key=key, payload_sha256=digest, create=create)


def find_study(session: Session, study_id: str, *, lock: bool = False) -> Study:
    """Return the study of that id, locked until the transaction ends if `lock` is set. Raises: StudyNotFound."""
    study = session.get(Study, study_id, with_for_update=lock, populate_existing=lock)
    if study is None:
        raise StudyNotFound(f"There is no study {study_id!r}; `GET /studies` lists them.")
    return study


def list_studies(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Study]:
    """Return a page of studies, newest first, after the one of that id."""
    return read_page(session, select(Study), Study.id, after=after, limit=limit, documents=(Study.methods,))


def list_runs(session: Session, study_id: str) -> list[tuple[StudyRun, Job | None]]:
    """Return every run of the study with its job, by method and seed; None for a job that was deleted."""
    query = select(StudyRun, Job).outerjoin(Job, Job.id == StudyRun.job_id).where(StudyRun.study_id == study_id)
    return [(run, job) for run, job in session.execute(query.order_by(StudyRun.method, StudyRun.seed))]


def count_states(session: Session, study_ids: Collection[str]) -> Mapping[str, Mapping[JobState | None, int]]:
    """Return the numbers of jobs in each state, for each of the studies by its id. The state of a deleted job is None."""
    query = select(StudyRun.study_id, Job.state, func.count(StudyRun.job_id).label("jobs"))
    rows = session.execute(
        query.outerjoin(Job, Job.id == StudyRun.job_id)
        .where(StudyRun.study_id.in_(study_ids))
        .group_by(StudyRun.study_id, Job.state)
    )
    counts: dict[str, Counter[JobState | None]] = {study_id: Counter() for study_id in study_ids}
    for study_id, state, jobs in rows:
        counts[study_id][state] = jobs
    return counts


def read_reports(session: Session, study_id: str) -> Iterator[str]:
    """Yield the reports of the study's jobs that have succeeded, as JSON, one after the other.

    Raises: InvalidSpec where they are larger together than `MOST_CHARACTERS`.
    """
    query = select(Report).join(Job, Job.id == Report.job_id).join(StudyRun, StudyRun.job_id == Job.id)
    query = query.where(StudyRun.study_id == study_id, Job.state == JobState.SUCCEEDED)
    size = session.scalars(query.with_only_columns(func.coalesce(func.sum(func.length(Report.document)), 0))).one()
    if size > MOST_CHARACTERS:
        raise InvalidSpec(
            f"The reports of study {study_id} have {size:,} characters, and a table is made of {MOST_CHARACTERS:,} at most. "
            "Download the reports, and pass them to `faal.tabulate_finetunings`."
        )
    ordered = query.with_only_columns(Report.job_id).order_by(StudyRun.method, StudyRun.seed)
    for job_id in session.scalars(ordered).all():
        document = session.scalars(select(Report.document).where(Report.job_id == job_id)).one_or_none()
        if document is not None:  # or the job was deleted at this moment
            yield document


def cancel(session: Session, study_id: str) -> None:
    """Cancel the jobs of the study that have not ended, as `control.cancel` does. Raises: StudyNotFound."""
    find_study(session, study_id)
    for job_id in session.scalars(
        select(StudyRun.job_id).where(StudyRun.study_id == study_id).order_by("job_id")
    ).all():
        job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
        if job is not None and job.state not in FINAL:
            control.cancel(session, job_id)


def remove_study(session: Session, study_id: str) -> None:
    """Remove the study; its jobs stay, and those that have not ended continue. Raises: StudyNotFound."""
    study = find_study(session, study_id, lock=True)
    session.execute(delete(StudyRun).where(StudyRun.study_id == study_id))
    session.delete(study)
