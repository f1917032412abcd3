"""How much an owner may have at a time: jobs that have not ended, and bytes in storage or on their way there.

Each transaction that counts waits for others of the same owner, so concurrent requests cannot exceed a quota together.
"""

from typing import Any

from sqlalchemy import CompoundSelect, func, select, union
from sqlalchemy.orm import Session

from jobs.artifacts import REFERENCES
from jobs.errors import QuotaExceeded
from jobs.settings import Quota
from jobs.states import FINAL, JobKind
from jobs.storage import StoredFile
from jobs.tables import Artifact, Job, PartialUpload, UploadPart


def require_room_for_job(session: Session, owner: str, kind: JobKind, quota: Quota, *, count: int = 1) -> None:
    """Check that the owner may have `count` more jobs; those that make weights need room for them. Raises: QuotaExceeded."""
    lock_owner(session, owner)
    _require_room_for_job(session, owner, quota, count)
    if kind in (JobKind.FINETUNE, JobKind.MAKE_CANDIDATE):
        _bytes_left(session, owner, quota)


def room_for_upload(session: Session, owner: str, quota: Quota) -> int | None:
    """Return the bytes that an upload may have; None where there is no quota. Raises: QuotaExceeded where no byte is left."""
    _require_room_for_job(session, owner, quota)  # which checks it
    return _bytes_left(session, owner, quota)


def require_room_for_upload(session: Session, owner: str, quota: Quota, upload: StoredFile) -> None:
    """Check that the owner may have this upload and a job that checks it, at this moment. Raises: QuotaExceeded."""
    lock_owner(session, owner)
    room = room_for_upload(session, owner, quota)
    owned = select(Artifact.sha256).where(Artifact.sha256 == upload.sha256, Artifact.sha256.in_(_files(owner)))
    if room is not None and upload.size > room and session.scalar(owned) is None:
        raise QuotaExceeded("bytes", quota.bytes, quota.bytes - room)


def require_room_for_parts(session: Session, owner: str, quota: Quota, size: int) -> None:
    """Check that the owner may send a file of that size in parts. Raises: QuotaExceeded."""
    lock_owner(session, owner)
    room = room_for_upload(session, owner, quota)
    if room is not None and room <= size:  # the registration needs some room as well
        raise QuotaExceeded("bytes", quota.bytes, quota.bytes - room)


def lock_owner(session: Session, owner: str, *, shared: bool = False) -> None:
    """Let one transaction at a time count what an owner has; on SQLite only one can write in any case.

    Args:
        shared: whether other transactions may hold the lock at the same time, if they share it as well.
    """
    if session.get_bind().dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        session.execute(select(lock(func.hashtextextended(owner, 0))))


def _require_room_for_job(session: Session, owner: str, quota: Quota, count: int = 1) -> None:
    if not quota.jobs:
        return
    unfinished = select(func.count(Job.id)).where(Job.owner == owner, Job.state.not_in(FINAL))
    used = session.scalars(unfinished).one()
    if used + count > quota.jobs:
        raise QuotaExceeded("jobs", quota.jobs, used, count)


def _bytes_left(session: Session, owner: str, quota: Quota) -> int | None:
    if not quota.bytes:
        return None
    file_bytes = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.sha256.in_(_files(owner)))
    upload_bytes = select(func.coalesce(func.sum(PartialUpload.size), 0)).where(
        PartialUpload.owner == owner, PartialUpload.sha256.is_(None)
    )
    used = int(session.scalars(file_bytes).one() + session.scalars(upload_bytes).one())
    if used >= quota.bytes:
        raise QuotaExceeded("bytes", quota.bytes, used)
    return quota.bytes - used


def _files(owner: str) -> CompoundSelect[Any]:
    """Return the query of the digests of an owner's files; parts of uploads are counted by the size of the whole."""
    whole = [(table, column) for table, column in REFERENCES if table is not UploadPart]
    return union(*(select(column).where(table.owner == owner) for table, column in whole))
