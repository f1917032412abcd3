"""API keys: create, list and revoke them. For administrators; `faal-service keys` creates the first key."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.access import administration
from api.access.authentication import AdminDep
from api.schemas.requests import OWNER, KeyRequest
from api.serving.dependencies import After, Id, Limit
from faal_client.resources.keys import KeyResource, NewKey
from faal_client.resources.objects import Page
from jobs.keys import site_secret

router = APIRouter(tags=["keys"])


@router.post("/keys", status_code=201, summary="Create an API key")
def create_key(body: KeyRequest, service: AdminDep, response: Response) -> NewKey:
    """Create an API key, and return it. The service never shows it again."""
    response.headers["Cache-Control"] = "no-store"
    return administration.issue_key(service.sessions, site_secret(service.settings), body)


@router.get("/keys", summary="List API keys, newest first")
def list_keys(
    service: AdminDep,
    after: After = None,
    limit: Limit = 20,
    owner: Annotated[
        str | None, Query(pattern=OWNER, max_length=100, description="list only the keys of this owner")
    ] = None,
) -> Page[KeyResource]:
    """List the keys of all owners or of one, including revoked and expired keys."""
    return administration.list_keys(service, owner=owner, after=after, limit=limit)


@router.post("/keys/{id}/revoke", summary="Revoke an API key")
def revoke_key(key_id: Id, service: AdminDep) -> KeyResource:
    """Revoke a key and the browser sessions that it opened, and return it."""
    return administration.revoke_key(service, key_id)
