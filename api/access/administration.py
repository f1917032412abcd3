"""Create, list and revoke API keys: for the routes, the pages and the command line."""

from datetime import timedelta

from api.schemas.requests import KeyRequest
from api.schemas.rows import describe_key, describe_page
from api.serving.dependencies import Service
from faal_client.resources.keys import KeyResource, NewKey
from faal_client.resources.objects import Page
from jobs import keys
from jobs.database import Sessions


def issue_key(sessions: Sessions, secret: bytes, request: KeyRequest) -> NewKey:
    """Create a key, commit it, and return it."""
    lifetime = None if request.days is None else timedelta(days=request.days)
    with sessions.begin() as session:
        row, key = keys.issue(
            session,
            secret,
            owner=request.owner,
            name=request.name,
            scopes=request.scopes,
            max_priority=request.max_priority,
            lifetime=lifetime,
        )
        return NewKey(key=key, about=describe_key(row))


def list_keys(
    service: Service, *, owner: str | None = None, after: str | None = None, limit: int = 20
) -> Page[KeyResource]:
    """Return the keys of all owners or of one, newest first, including revoked and expired keys."""
    with service.sessions() as session:
        page = keys.list_keys(session, owner=owner, after=after, limit=limit)
    return describe_page(page, describe_key)


def revoke_key(service: Service, key_id: str) -> KeyResource:
    """Revoke a key and the browser sessions that it opened, and return it. Raises: KeyNotFound."""
    with service.sessions.begin() as session:
        return describe_key(keys.revoke(session, key_id))
