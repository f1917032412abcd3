"""Removal of jobs, models and data sets, and of files that no row refers to.

A removed model or data set keeps its row, without a file, since jobs and fine-tuned models name it. A file is removed from
storage while its row is locked, and the row is deleted in the same transaction. A request that registers the same content at
that moment waits for the lock, and then sees that the file was removed (`artifacts.require_in_storage`).
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Text, and_, cast, delete, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobs.artifacts import REFERENCES
from jobs.clock import now
from jobs.comparisons import is_being_compared
from jobs.database import Sessions
from jobs.errors import DatasetNotFound, InUse, JobStateConflict, ModelNotFound
from jobs.moves import lock_job
from jobs.plans import is_baseline
from jobs.states import FINAL, JobKind, UploadState
from jobs.storage import Storage, StoredFile
from jobs.tables import Artifact, Dataset, Job, JobEvent, Model, Report, ReportLink, ReportOutcomes

logger = logging.getLogger(__name__)

SECONDS_A_DAY = 86_400.0
_AT_ONCE = 100  # rows that one transaction locks
_FILES_AT_ONCE = 10  # rows of files that one transaction locks; the store removes the files meanwhile
_CANDIDATES = select(Model.id).where(Model.candidate.is_not(None), Model.state == UploadState.VALIDATING)
Upload = TypeVar("Upload", Model, Dataset)


def remove_model(session: Session, model_id: str) -> Model:
    """Delete the model's files and mark it as deleted. Raises: ModelNotFound; InUse while a job needs it."""
    model = session.get(Model, model_id, with_for_update=True)
    if model is None:
        raise ModelNotFound(f"There is no model {model_id!r}; `GET /models` lists them.")
    model.upload_sha256 = None
    candidates = select(Model.id).where(Model.parent_model_id == model_id, Model.state == UploadState.VALIDATING)
    needing = or_(Job.model_id == model_id, Job.model_id.in_(candidates))
    if model.weights_sha256 is not None:  # an attack of an audit may follow its gradients
        names_weights = cast(Job.spec, Text).contains(model.weights_sha256)
        needing = or_(needing, and_(Job.kind == JobKind.AUDIT, Job.owner == model.owner, names_weights))
    return _mark_deleted(session, model, session.scalars(_unfinished_jobs(needing)).first())


def remove_dataset(session: Session, dataset_id: str) -> Dataset:
    """Delete the data set's file and mark it as deleted. Raises: DatasetNotFound; InUse while a job needs it."""
    dataset = session.get(Dataset, dataset_id, with_for_update=True)
    if dataset is None:
        raise DatasetNotFound(f"There is no data set {dataset_id!r}; `GET /datasets` lists them.")
    return _mark_deleted(session, dataset, session.scalars(_unfinished_jobs(Job.dataset == dataset_id)).first())


def remove_job(session: Session, job_id: str) -> None:
    """Remove the job with its events, its report, the outcomes and the links; models that it made stay.

    Raises: JobNotFound, JobStateConflict; InUse while a candidate of its report is being made, it is being compared, or a
        plan has it as its baseline.
    """
    job = lock_job(session, job_id)
    if job.state not in FINAL:
        raise JobStateConflict(
            f"Job {job_id} is {job.state}, and only a job that has ended can be deleted. Cancel it first."
        )
    if (model_id := session.scalars(_CANDIDATES.where(Model.parent_job_id == job_id)).first()) is not None:
        raise InUse(f"Job {job_id} is needed by {model_id}, a candidate that is being made. Try again in a moment.")
    if session.scalar(select(is_being_compared(job_id))):
        raise InUse(f"Job {job_id} is needed by a comparison that has not ended. Try again in a moment.")
    if session.scalar(select(is_baseline(job_id))):
        raise InUse(f"Job {job_id} is the baseline of a plan. Choose another baseline, or delete the plan.")
    for table in (JobEvent, Report, ReportOutcomes, ReportLink):
        session.execute(delete(table).where(table.job_id == job_id))
    session.delete(job)


def remove_old_jobs(sessions: Sessions, days: float) -> int:
    """Remove the jobs that ended more than `days` ago, and return their number."""
    needed = or_(
        _CANDIDATES.where(Model.parent_job_id == Job.id).exists(), is_being_compared(Job.id), is_baseline(Job.id)
    )
    old = (
        select(Job.id)
        .where(Job.state.in_(FINAL), Job.finished_at < now(-days * SECONDS_A_DAY), ~needed)
        .limit(_AT_ONCE)
    )
    removed = 0
    while True:
        with sessions.begin() as session:
            job_ids = session.scalars(old.with_for_update(skip_locked=True)).all()
            for job_id in job_ids:
                # A candidate or comparison may be requested between the search and its lock; the next search sees it.
                with suppress(InUse):
                    remove_job(session, job_id)
                    removed += 1
        if not job_ids:
            return removed


def discard(sessions: Sessions, storage: Storage, digests: Collection[str]) -> None:
    """Remove those files, which were refused or replaced, unless a row refers to them.

    Where that fails, a sweep removes them later.
    """
    with _logged_failure():
        for sha256 in digests:
            with sessions.everybody.begin() as session:
                artifact = session.get(Artifact, sha256, with_for_update=True)
                if artifact is not None and not session.scalar(select(_is_referenced(sha256))):
                    _remove_files(session, storage, [artifact])
            if artifact is None:
                _remove_stray(sessions.everybody, storage, sha256)


@contextmanager
def discard_on_failure(sessions: Sessions, storage: Storage, stored: StoredFile) -> Iterator[None]:
    """Remove a file that was just stored if the block, which registers it, fails and no row refers to the file."""
    try:
        yield
    except BaseException:
        discard(sessions, storage, [stored.sha256])
        raise


@contextmanager
def _logged_failure() -> Iterator[None]:
    """Log a failure of the block instead of raising it: a sweep removes the files later."""
    try:
        yield
    except Exception:
        logger.exception("unused files could not be removed; a sweep removes them later")


def try_collect(sessions: Sessions, storage: Storage) -> None:
    """Remove all files that no row refers to, after a deletion or cancellation; log a failure, since a sweep tries again."""
    with _logged_failure():
        collect(sessions, storage)


def collect(sessions: Sessions, storage: Storage) -> int:
    """Remove all files whose row nothing refers to, and return their number."""
    removed = 0
    while True:
        with sessions.everybody.begin() as session:
            unreferenced = select(Artifact).where(~_is_referenced()).limit(_FILES_AT_ONCE)
            artifacts = session.scalars(unreferenced.with_for_update(skip_locked=True)).all()
            # A reference that was made while this waited for the lock is seen by a statement of its own.
            unused = [artifact for artifact in artifacts if not session.scalar(select(_is_referenced(artifact.sha256)))]
            _remove_files(session, storage, unused)
        if not unused:
            return removed
        removed += len(unused)


def collect_strays(sessions: Sessions, storage: Storage, silent_seconds: float) -> int:
    """Remove files without a row that were stored at least `silent_seconds` ago, and return their number.

    Such files were stored by processes that died before they registered them.
    """
    return sum(_remove_stray(sessions, storage, sha256) for sha256 in storage.list_untouched(silent_seconds))


def _remove_stray(sessions: Sessions, storage: Storage, sha256: str) -> bool:
    """Remove a file unless it has a row, and return whether it had none."""
    try:
        with sessions.begin() as session:
            session.add(Artifact(sha256=sha256, size=0, media_type=""))  # until the commit others wait for this row
            session.flush()
            _remove_files(session, storage, [session.get_one(Artifact, sha256)])
    except IntegrityError:  # it has a row
        return False
    return True


def _mark_deleted(session: Session, upload: Upload, job_id: str | None) -> Upload:
    if job_id is not None:
        raise InUse(f"{upload.id} is needed by {job_id}, which has not ended. Cancel the job or wait for its end.")
    upload.state, upload.sha256, upload.error = UploadState.DELETED, None, None
    return upload


def _unfinished_jobs(condition: ColumnElement[bool]) -> Select[str]:
    return select(Job.id).where(condition, Job.state.not_in(FINAL)).limit(1)


def _is_referenced(sha256: str | InstrumentedAttribute[str] = Artifact.sha256) -> ColumnElement[bool]:
    return or_(*(exists().where(column == sha256) for _, column in REFERENCES))


def _remove_files(session: Session, storage: Storage, artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        storage.remove(artifact.sha256)
        session.delete(artifact)
