"""One job or study for one idempotency key, even when the same request arrives twice at the same moment."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.errors import IdempotencyConflict, QuotaExceeded
from jobs.study_tables import Study
from jobs.tables import Job

Row = TypeVar("Row", Job, Study)


def payload_digest(payload: Mapping[str, object]) -> str:
    """Return the SHA-256 of a request: the same fields in any order give the same digest."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def create_once(
    session: Session, table: type[Row], *, owner: str, key: str | None, payload_sha256: str, create: Callable[[], Row]
) -> Row:
    """Return the row of this owner's key, or else what `create` adds; without a key always call `create`.

    Two concurrent requests of one key both try to insert it. The unique constraint lets one through; the other waits
    for that transaction, undoes its own rows and finds the first's row. If the first has used up a quota, it finds the row, too.

    Raises: IdempotencyConflict when the key belongs to another payload.
    """
    if key is None:
        return create()
    if (earlier := _find_earlier(session, table, owner, key, payload_sha256)) is not None:
        return earlier
    try:
        with session.begin_nested():
            return create()
    except (IntegrityError, QuotaExceeded):
        if (earlier := _find_earlier(session, table, owner, key, payload_sha256)) is None:
            raise
        return earlier


def is_key_used(session: Session, owner: str, key: str) -> bool:
    """Return whether that owner's key belongs to a job already."""
    return (
        session.scalars(select(Job.id).where(Job.owner == owner, Job.idempotency_key == key)).one_or_none() is not None
    )


def _find_earlier(session: Session, table: type[Row], owner: str, key: str, payload_sha256: str) -> Row | None:
    """Return the row of this owner's key. Raises: IdempotencyConflict when the key belongs to another payload or table."""
    row = session.scalars(select(table).where(table.owner == owner, table.idempotency_key == key)).one_or_none()
    if row is not None:
        other_id = row.id if row.payload_sha256 != payload_sha256 else None
    else:
        other = Study if table is Job else Job
        query = select(other.id).where(other.owner == owner, other.idempotency_key == key)
        other_id = session.scalars(query).one_or_none()
    if other_id is not None:
        raise IdempotencyConflict(
            f"The idempotency key {key!r} was used for another request ({other_id}). Send a new key with a new request."
        )
    return row
