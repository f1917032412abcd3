"""Create an API key: for the route and for the command line."""

from datetime import timedelta

from api.schemas.requests import KeyRequest
from api.schemas.rows import describe_key
from faal_client.resources.keys import NewKey
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
