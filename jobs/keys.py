"""API keys: who may ask for what. A key is told once, when it is made; what is stored is a keyed hash of it."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from jobs.clock import now
from jobs.errors import CannotStart, KeyNotFound, KeyRefused
from jobs.paging import Page, page
from jobs.settings import Settings
from jobs.tables import ApiKey

_MARK = "faal_"  # by which scanners of source code know a key that leaked
_SECRET_BYTES = 32


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"  # see its owner's jobs, models, data sets and reports
    SUBMIT = "submit"  # upload, start jobs, call them off, in its owner's name
    METRICS = "metrics"  # see how much is going on, of everybody together
    ADMIN = "admin"  # make, list and revoke keys, of every owner


@lru_cache(maxsize=8)
def site_secret(settings: Settings) -> bytes:
    """What keys are hashed under: the setting, else a file in the data folder, written by the first process to ask.

    Raises: CannotStart where it is too short to be one.
    """
    if settings.secret is not None:
        found = settings.secret.get_secret_value().encode()
        if len(found) < _SECRET_BYTES:
            raise CannotStart(f"FAAL_SECRET has fewer than {_SECRET_BYTES} characters.")
        return found
    file = settings.data_dir / "secret"
    if not file.exists():
        _write_once(file, secrets.token_bytes(_SECRET_BYTES))
    found = file.read_bytes()
    if len(found) < _SECRET_BYTES:
        raise CannotStart(f"The file {file} is damaged. Restore it, or remove it and make new API keys.")
    return found


def _write_once(file: Path, content: bytes) -> None:
    """The file is there, whole and for this user's eyes only; one that another process wrote first stays."""
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
    """Whether a key was ever made. Until then there is nobody to tell apart."""
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
    """A new key: its row, and the key itself, which is not to be had a second time."""
    key = _MARK + secrets.token_urlsafe(_SECRET_BYTES)
    row = ApiKey(
        owner=owner,
        name=name,
        max_priority=max_priority,
        scopes=sorted(set(scopes)),
        digest=_digest(secret, key),
        expires_at=None if lifetime is None else now(lifetime.total_seconds()),
    )
    session.add(row)
    session.flush()
    return row, key


def known(session: Session, secret: bytes, key: str) -> ApiKey:
    """The row of that key. Raises: KeyRefused where there is none, and after it was revoked or ran out."""
    return _valid(session, select(ApiKey).where(ApiKey.digest == _digest(secret, key)))


def still_valid(session: Session, key_id: str) -> ApiKey:
    """The row of that id. Raises: KeyRefused as `known` does."""
    return _valid(session, select(ApiKey).where(ApiKey.id == key_id))


def keys(session: Session, *, after: str | None = None, limit: int = 20) -> Page[ApiKey]:
    """A page of keys of every owner, newest first, after the one of that id."""
    return page(session, select(ApiKey), ApiKey.id, after=after, limit=limit)


def revoke(session: Session, key_id: str) -> ApiKey:
    """The key, which from now on is refused; one that was revoked before stays as it is. Raises: KeyNotFound."""
    row = session.get(ApiKey, key_id)
    if row is None:
        raise KeyNotFound(f"There is no key {key_id!r}; `GET /keys` lists them.")
    if row.revoked_at is None:
        row.revoked_at = now()
        session.flush()
        session.refresh(row)
    return row


def _valid(session: Session, query: Select[ApiKey]) -> ApiKey:
    in_time = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now())
    row = session.scalars(query.where(ApiKey.revoked_at.is_(None), in_time)).one_or_none()
    if row is None:
        raise KeyRefused(
            "This API key is not known here, was revoked, or has run out; ask whoever runs the service for another."
        )
    return row


def _digest(secret: bytes, key: str) -> str:
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()
