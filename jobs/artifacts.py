"""The table of files in storage: which there are, which rows name them, and which are lost."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import FileLost, FileVanished
from jobs.storage import Storage, StoredFile
from jobs.tables import Artifact, Dataset, Job, Model, PartialUpload, ReportOutcomes, UploadPart

REFERENCES = (
    (Model, Model.upload_sha256),
    (Model, Model.sha256),
    (Dataset, Dataset.sha256),
    (Job, Job.trained_sha256),
    (ReportOutcomes, ReportOutcomes.sha256),
    (PartialUpload, PartialUpload.sha256),
    (UploadPart, UploadPart.sha256),
)
"""The tables and their columns that name a file."""

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file that is missing in storage or damaged.

    Args:
        damaged: whether it is in storage with another content.
        named_by: ids of the models, data sets, jobs and uploads that need it.
    """

    sha256: str
    damaged: bool
    named_by: tuple[str, ...]


def record_artifact(session: Session, stored: StoredFile) -> None:
    """Add the row of a file that was just stored, or mark the file as no longer lost if it has a row.

    The row stays until the transaction ends. Another transaction may add the same row at the same moment.
    """
    if _has_row(session, stored.sha256):
        _clear_lost(session, stored.sha256)
        return
    try:
        with session.begin_nested():
            session.add(Artifact(sha256=stored.sha256, size=stored.size, media_type=stored.media_type))
    except IntegrityError:
        if not _has_row(session, stored.sha256):
            raise


def require_in_storage(storage: Storage, stored: StoredFile) -> None:
    """Check that the file that was recorded in this transaction is in storage.

    Raises: FileVanished, StoreUnavailable.
    """
    if not storage.exists(stored.sha256):
        raise FileVanished("Another request removed the same file while this one registered it. Send the file again.")


def _has_row(session: Session, sha256: str) -> bool:
    """Return whether the file has a row, which nobody can then remove until the transaction ends."""
    return session.get(Artifact, sha256, with_for_update={"read": True, "key_share": True}) is not None


def record_lost(sessions: Sessions, lost: FileLost) -> None:
    """Record that the file is lost, until it is stored again or read as a whole."""
    with sessions.begin() as session:
        session.execute(update(Artifact).where(Artifact.sha256 == lost.sha256).values(lost_at=now()))


def count_lost_files(session: Session) -> int:
    """Return how many files count as lost."""
    return session.scalar(select(func.count()).where(Artifact.lost_at.is_not(None))) or 0


def check_files(sessions: Sessions, storage: Storage) -> Iterator[LostFile]:
    """Read every stored file, record which are lost, and yield these. Raises: StoreUnavailable."""
    last = ""
    while True:
        with sessions() as session:
            after = select(Artifact.sha256).where(Artifact.sha256 > last).order_by(Artifact.sha256)
            digests = session.scalars(after.limit(_ROWS_AT_ONCE)).all()
        if not digests:
            return
        last = digests[-1]
        for sha256 in digests:
            try:
                storage.verify(sha256)
            except FileLost as error:
                record_lost(sessions, error)
                with sessions() as session:
                    if session.get(Artifact, sha256) is not None:  # else it was removed meanwhile
                        yield LostFile(sha256, error.damaged, _ids_that_need(session, sha256))
            else:
                with sessions.begin() as session:
                    _clear_lost(session, sha256)


def _clear_lost(session: Session, sha256: str) -> None:
    is_lost = (Artifact.sha256 == sha256, Artifact.lost_at.is_not(None))
    session.execute(update(Artifact).where(*is_lost).values(lost_at=None))


def _ids_that_need(session: Session, sha256: str) -> tuple[str, ...]:
    owners = {Model: Model.id, Dataset: Dataset.id, Job: Job.id, PartialUpload: PartialUpload.id}
    owners |= {UploadPart: UploadPart.upload_id, ReportOutcomes: ReportOutcomes.job_id}
    names = {
        name for table, column in REFERENCES for name in session.scalars(select(owners[table]).where(column == sha256))
    }
    return tuple(sorted(names))
