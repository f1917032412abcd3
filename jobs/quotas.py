"""How much an owner may have at a time: jobs that have not ended, and bytes in storage.

Requests at the same moment do not see one another: each may pass where there is room for one.
"""

from sqlalchemy import ColumnElement, func, select, union
from sqlalchemy.orm import Session

from jobs.errors import QuotaExceeded
from jobs.states import FINAL
from jobs.tables import Artifact, Dataset, Job, Model


def require_room_for_job(session: Session, owner: str, most: int | None) -> None:
    """Returns if the owner has fewer than `most` jobs that are queued or running. Raises: QuotaExceeded."""
    if most is None:
        return
    waiting = _count(session, func.count(Job.id), Job.owner == owner, Job.state.not_in(FINAL))
    if waiting >= most:
        raise QuotaExceeded("jobs", most, waiting)


def bytes_left(session: Session, owner: str, most: int | None) -> int | None:
    """Bytes that the owner may still store; None where there is no quota. Raises: QuotaExceeded when there are none."""
    if most is None:
        return None
    files = union(*(select(column).where(table.owner == owner) for table, column in _FILES))
    stored = _count(session, func.coalesce(func.sum(Artifact.size), 0), Artifact.sha256.in_(files))
    if stored >= most:
        raise QuotaExceeded("bytes", most, stored)
    return most - stored


_FILES = ((Model, Model.upload_sha256), (Model, Model.sha256), (Dataset, Dataset.sha256))


def _count(session: Session, what: ColumnElement[int], *where: ColumnElement[bool]) -> int:
    return int(session.scalars(select(what).where(*where)).one())
