"""API keys and their scopes. A key is shown once, when it is issued; the table stores a keyed hash of it."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Collection
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from faal_client.vocabulary import Scope
from jobs.clock import now
from jobs.database import OWNED, Sessions
from jobs.errors import CannotStart, KeyNotFound, KeyRefused
from jobs.paging import Page, read_page
from jobs.quotas import lock_owner
from jobs.settings import Settings
from jobs.tables import ApiKey

_PREFIX = "faal_"  # by which scanners of source code recognise a leaked key
_SECRET_BYTES = 32
ANYBODY = "local"
"""The owner of all objects until the first key is issued."""
_FIRST_KEY = "the first key"  # a name for `lock_owner` that no owner can have
_VALID = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()))


@lru_cache(maxsize=8)
def site_secret(settings: Settings) -> bytes:
    """Return the secret that keys are hashed under: the setting, else a file in the data folder.

    The first process that needs the file writes it. Raises: CannotStart where the secret is too short.
    """
    if settings.secret is not None:
        secret = settings.secret.get_secret_value().encode()
        if len(secret) < _SECRET_BYTES:
            raise CannotStart(f"FAAL_SECRET has fewer than {_SECRET_BYTES} characters. Set a longer one.")
        return secret
    file = settings.data_dir / "secret"
    if not file.exists():
        _write_once(file, secrets.token_bytes(_SECRET_BYTES))
    secret = file.read_bytes()
    if len(secret) < _SECRET_BYTES:
        raise CannotStart(f"The file {file} is damaged. Restore it, or remove it and make new API keys.")
    return secret


def _write_once(file: Path, content: bytes) -> None:
    """Write the file whole and readable by this user only; leave one that another process wrote first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as partial:
        partial.write(content)
        partial.flush()
        os.fsync(partial.fileno())
    try:
        os.link(name, file)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()


def exist(session: Session) -> bool:
    """Return whether any key was ever issued. Until then all requests come from one owner."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def issue(
    session: Session,
    secret: bytes,
    *,
    owner: str,
    name: str,
    scopes: Collection[Scope],
    lifetime: timedelta | None,
    max_priority: int = 0,
) -> tuple[ApiKey, str]:
    """Issue a key, and return its row and the key itself, which cannot be read again later.

    The owner of the first key takes over all objects from before it; otherwise no key would show them. So this waits for requests
    without a key that are writing, and others wait for it.
    """
    lock_owner(session, _FIRST_KEY)
    if owner != ANYBODY and not exist(session):
        for table in OWNED:
            session.execute(update(table).where(table.owner == ANYBODY).values(owner=owner))
    key = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = ApiKey(
        owner=owner,
        name=name,
        max_priority=max_priority,
        scopes=sorted(set(scopes)),
        digest=hash_token(secret, key),
        expires_at=None if lifetime is None else now(lifetime.total_seconds()),
    )
    session.add(row)
    session.flush()
    return row, key


def open_keyless(sessions: Sessions) -> Sessions:
    """Return sessions for requests without a key: they show the objects of `ANYBODY`, or those of the owner of the first key.

    A request that began before the first key and writes after it writes for the owner of that key. No first key is issued while
    such a transaction writes.
    """
    return sessions.for_owner(ANYBODY, _find_current_owner)


def _find_current_owner(session: Session) -> str:
    """Return the owner of requests without a key, which stays the same until the transaction ends."""
    lock_owner(
        session, _FIRST_KEY, shared=True
    )  # before any row, so that `issue` never has what this transaction waits for
    return session.scalars(select(ApiKey.owner).order_by(ApiKey.id).limit(1)).one_or_none() or ANYBODY


def authenticate(session: Session, secret: bytes, key: str) -> ApiKey:
    """Return the row of that key. Raises: KeyRefused where the key is unknown, revoked or expired."""
    return _require_one(session, select(ApiKey).where(ApiKey.digest == hash_token(secret, key)))


def require_valid(session: Session, key_id: str) -> ApiKey:
    """Return the row of that id. Raises: KeyRefused as `authenticate` does."""
    return _require_one(session, select(ApiKey).where(ApiKey.id == key_id))


def list_keys(session: Session, *, owner: str | None = None, after: str | None = None, limit: int = 20) -> Page[ApiKey]:
    """Return a page of the keys of one owner or of all, newest first, after the one of that id."""
    query = select(ApiKey) if owner is None else select(ApiKey).where(ApiKey.owner == owner)
    return read_page(session, query, ApiKey.id, after=after, limit=limit)


def revoke(session: Session, key_id: str) -> ApiKey:
    """Revoke a key and return its row; one that was revoked before stays as it is. Raises: KeyNotFound."""
    row = session.get(ApiKey, key_id)
    if row is None:
        raise KeyNotFound(f"There is no key {key_id!r}; `GET /keys` lists them.")
    if row.revoked_at is None:
        row.revoked_at = now()
        session.flush()
        session.refresh(row)
    return row


def count_valid_keys(session: Session, owner: str) -> int:
    """Return the number of keys of the owner that are neither revoked nor expired."""
    return session.scalars(select(func.count(ApiKey.id)).where(ApiKey.owner == owner, *_VALID)).one()


def _require_one(session: Session, query: Select[ApiKey]) -> ApiKey:
    row = session.scalars(query.where(*_VALID)).one_or_none()
    if row is None:
        raise KeyRefused(
            "This API key is unknown, revoked or expired. Ask the administrator of the service for another."
        )
    return row


def hash_token(secret: bytes, token: str) -> str:
    """Return the hash under which a table stores a key or another token: HMAC-SHA-256 under the site's secret."""
    return hmac.new(secret, token.encode(), hashlib.sha256).hexdigest()
