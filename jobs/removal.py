"""What is removed, and when its file goes: when nothing refers to it any more.

A model or data set that is removed keeps its row, without a file, since jobs and fine-tuned models name it. A file is unlinked
while its row is locked, and the row goes with it; who registers the same content at that moment waits for the lock, and then
sees that the file is gone (`artifacts.require_there`).
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobs.artifacts import REFERENCES
from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import DatasetNotFound, InUse, JobStateConflict, ModelNotFound
from jobs.moves import locked
from jobs.states import FINAL, UploadState
from jobs.storage import Storage, Stored
from jobs.tables import Artifact, Dataset, Job, JobEvent, Model, Report

logger = logging.getLogger(__name__)

SECONDS_A_DAY = 86_400.0
_AT_ONCE = 100  # rows that one transaction locks
_FILES_AT_ONCE = 10  # rows of files that one transaction locks; the store removes the files meanwhile
_CANDIDATES = select(Model.id).where(Model.candidate.is_not(None), Model.state == UploadState.VALIDATING)
Upload = TypeVar("Upload", Model, Dataset)


def remove_model(session: Session, model_id: str) -> Model:
    """The model, deleted: nothing can be done with it any more. Raises: ModelNotFound; InUse while a job needs it."""
    model = session.get(Model, model_id, with_for_update=True)
    if model is None:
        raise ModelNotFound(f"There is no model {model_id!r}; `GET /models` lists them.")
    model.upload_sha256 = None
    candidates = select(Model.id).where(Model.parent_model_id == model_id, Model.state == UploadState.VALIDATING)
    needing = or_(Job.model_id == model_id, Job.model_id.in_(candidates))
    return _removed(session, model, session.scalars(_unfinished(needing)).first())


def remove_dataset(session: Session, dataset_id: str) -> Dataset:
    """Likewise for a data set. Raises: DatasetNotFound; InUse while a job needs it."""
    dataset = session.get(Dataset, dataset_id, with_for_update=True)
    if dataset is None:
        raise DatasetNotFound(f"There is no data set {dataset_id!r}; `GET /datasets` lists them.")
    return _removed(session, dataset, session.scalars(_unfinished(Job.dataset == dataset_id)).first())


def remove_job(session: Session, job_id: str) -> None:
    """The job is gone with its events and its report; models of it stay.

    Raises: JobNotFound, JobStateConflict; InUse while a candidate of its report is being made.
    """
    job = locked(session, job_id)
    if job.state not in FINAL:
        raise JobStateConflict(f"Job {job_id} is {job.state}; cancel it first, what has ended can be deleted.")
    if (model_id := session.scalars(_CANDIDATES.where(Model.parent_job_id == job_id)).first()) is not None:
        raise InUse(f"{job_id} is needed by {model_id}, which is being made of its report; ask again in a moment.")
    for table in (JobEvent, Report):
        session.execute(delete(table).where(table.job_id == job_id))
    session.delete(job)


def remove_old_jobs(sessions: Sessions, days: float) -> int:
    """How many jobs were removed that ended more than so many days ago."""
    needed = _CANDIDATES.where(Model.parent_job_id == Job.id).exists()
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
                with suppress(
                    InUse
                ):  # a candidate was asked for between the search and its lock; the next search sees it
                    remove_job(session, job_id)
                    removed += 1
        if not job_ids:
            return removed


def discard(sessions: Sessions, storage: Storage, digests: Collection[str]) -> None:
    """Remove those files, which were refused or replaced, unless something refers to them.

    Where that fails, a sweep removes them later.
    """
    with _left_to_the_sweep():
        for sha256 in digests:
            with sessions.everybody.begin() as session:
                artifact = session.get(Artifact, sha256, with_for_update=True)
                if artifact is not None and not session.scalar(select(_referred(sha256))):
                    _unlink(session, storage, [artifact])
            if artifact is None:
                _remove_stray(sessions.everybody, storage, sha256)


@contextmanager
def discarded_on_failure(sessions: Sessions, storage: Storage, stored: Stored) -> Iterator[None]:
    """Remove a file that was just stored if the block, which registers it, fails and nothing else refers to the file."""
    try:
        yield
    except BaseException:
        discard(sessions, storage, [stored.sha256])
        raise


@contextmanager
def _left_to_the_sweep() -> Iterator[None]:
    """Log a failure of the block instead of raising it: the sweep removes the files later."""
    try:
        yield
    except Exception:
        logger.exception("files that nothing refers to are left to the sweep")


def collect_now(sessions: Sessions, storage: Storage) -> None:
    """Remove all files to which nothing refers any more, after a deletion or cancellation; a failure is left to the sweep."""
    with _left_to_the_sweep():
        collect(sessions, storage)


def collect(sessions: Sessions, storage: Storage) -> int:
    """Remove all files that have a row to which nothing refers, and return how many there were."""
    removed = 0
    while True:
        with sessions.everybody.begin() as session:
            unreferred = select(Artifact).where(~_referred()).limit(_FILES_AT_ONCE)
            artifacts = session.scalars(unreferred.with_for_update(skip_locked=True)).all()
            # A reference that was made while this waited for the lock is seen by a statement of its own.
            gone = [artifact for artifact in artifacts if not session.scalar(select(_referred(artifact.sha256)))]
            _unlink(session, storage, gone)
        if not gone:
            return removed
        removed += len(gone)


def collect_strays(sessions: Sessions, storage: Storage, silent_seconds: float) -> int:
    """Remove files without a row that were stored at least `silent_seconds` ago, and return their number.

    Such files were stored by processes that died before they registered them.
    """
    return sum(_remove_stray(sessions, storage, sha256) for sha256 in storage.silent_for(silent_seconds))


def _remove_stray(sessions: Sessions, storage: Storage, sha256: str) -> bool:
    """Remove a file unless it has a row, and return whether it had none."""
    try:
        with sessions.begin() as session:
            session.add(Artifact(sha256=sha256, size=0, media_type=""))  # until the commit others wait for this row
            session.flush()
            _unlink(session, storage, [session.get_one(Artifact, sha256)])
    except IntegrityError:  # it has a row
        return False
    return True


def _removed(session: Session, upload: Upload, job_id: str | None) -> Upload:
    if job_id is not None:
        raise InUse(f"{upload.id} is needed by {job_id}, which has not ended; cancel the job or wait for its end.")
    upload.state, upload.sha256, upload.error = UploadState.DELETED, None, None
    return upload


def _unfinished(about: ColumnElement[bool]) -> Select[str]:
    return select(Job.id).where(about, Job.state.not_in(FINAL)).limit(1)


def _referred(sha256: str | InstrumentedAttribute[str] = Artifact.sha256) -> ColumnElement[bool]:
    return or_(*(exists().where(column == sha256) for _, column in REFERENCES))


def _unlink(session: Session, storage: Storage, artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        storage.remove(artifact.sha256)
        session.delete(artifact)
