"""How much an owner may have at a time: jobs that have not ended, and bytes in storage or on their way there.

Requests at the same moment do not see one another: each may pass where there is room for one.
"""

from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from jobs.artifacts import REFERENCES
from jobs.errors import QuotaExceeded
from jobs.settings import Quota
from jobs.states import FINAL, JobKind
from jobs.tables import Artifact, Job, PartialUpload, UploadPart


def require_room_for_job(session: Session, owner: str, kind: JobKind, quota: Quota) -> None:
    """Returns if the owner may have one more job; one that makes weights needs room for them. Raises: QuotaExceeded."""
    _require_room_for_job(session, owner, quota)
    if kind in (JobKind.FINETUNE, JobKind.MAKE_CANDIDATE):
        _bytes_left(session, owner, quota)


def room_for_upload(session: Session, owner: str, quota: Quota) -> int | None:
    """Bytes that an upload may have; None where there is no quota. Raises: QuotaExceeded where it may have none."""
    _require_room_for_job(session, owner, quota)  # which checks it
    return _bytes_left(session, owner, quota)


def _require_room_for_job(session: Session, owner: str, quota: Quota) -> None:
    if not quota.jobs:
        return
    waiting = select(func.count(Job.id)).where(Job.owner == owner, Job.state.not_in(FINAL))
    used = session.scalars(waiting).one()
    if used >= quota.jobs:
        raise QuotaExceeded("jobs", quota.jobs, used)


def _bytes_left(session: Session, owner: str, quota: Quota) -> int | None:
    if not quota.bytes:
        return None
    whole = [(table, column) for table, column in REFERENCES if table is not UploadPart]
    files = union(*(select(column).where(table.owner == owner) for table, column in whole))
    stored = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.sha256.in_(files))
    coming = select(func.coalesce(func.sum(PartialUpload.size), 0)).where(
        PartialUpload.owner == owner, PartialUpload.sha256.is_(None)
    )
    used = int(session.scalars(stored).one() + session.scalars(coming).one())
    if used >= quota.bytes:
        raise QuotaExceeded("bytes", quota.bytes, used)
    return quota.bytes - used
