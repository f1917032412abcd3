"""API keys: make one, list them, revoke one. For administrators; the first is made by `faal-service keys`."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.access.authentication import AdminDep
from api.schemas.resources import Name, Page, Resource
from api.serving.dependencies import After, Id, Limit
from faal_core.specs import Spec
from jobs import keys
from jobs.database import Sessions
from jobs.keys import Scope, site_secret
from jobs.settings import MAX_PRIORITY
from jobs.tables import ApiKey

router = APIRouter(tags=["keys"])

MOST_DAYS = 3650

_EXAMPLE: JsonDict = {"owner": "vision-team", "name": "nightly audits", "scopes": ["read", "submit"], "days": 90}

OWNER = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"  # no two that look alike
Owner = Annotated[str, Field(pattern=OWNER, max_length=100, description="whose it is", examples=["vision-team"])]


class KeyRequest(Spec):
    """Who shall be able to ask for what, and for how long."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    owner: Owner
    name: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = Field(
        (Scope.READ, Scope.SUBMIT),
        description="read: see the owner's jobs, models, data sets and reports; submit: upload, start and cancel in the owner's "
        "name; metrics: see /metrics; admin: make, list and revoke everybody's keys",
    )
    max_priority: int = Field(
        0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="the highest priority of jobs that are submitted with the key"
    )
    days: float | None = Field(90, gt=0, le=MOST_DAYS, description="how long it lasts; null: until it is revoked")


class KeyResource(Resource):
    """What is known of a key; the key itself is not."""

    id: str = Field(examples=["key_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["key"] = "key"
    owner: str
    name: str
    scopes: list[Scope]
    max_priority: int = Field(description="the highest priority of jobs that are submitted with the key")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: ApiKey) -> Self:
        """The key of that row."""
        return cls(
            id=row.id,
            owner=row.owner,
            name=row.name,
            scopes=[Scope(scope) for scope in row.scopes],
            max_priority=row.max_priority,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )


class NewKey(Resource):
    """A key that was just made. Nobody, the service included, can read it again."""

    object: Literal["new-key"] = "new-key"
    key: str = Field(examples=["faal_…"], description="send it as `Authorization: Bearer faal_…`")
    about: KeyResource


@router.post("/keys", status_code=201, summary="Make an API key")
def create_key(body: KeyRequest, service: AdminDep, response: Response) -> NewKey:
    """The key, which is told this once."""
    response.headers["Cache-Control"] = "no-store"
    return issue(service.sessions, site_secret(service.settings), body)


def issue(sessions: Sessions, secret: bytes, wanted: KeyRequest) -> NewKey:
    """The new key, committed."""
    lifetime = None if wanted.days is None else timedelta(days=wanted.days)
    with sessions.begin() as session:
        row, key = keys.issue(
            session,
            secret,
            owner=wanted.owner,
            name=wanted.name,
            scopes=wanted.scopes,
            max_priority=wanted.max_priority,
            lifetime=lifetime,
        )
        return NewKey(key=key, about=KeyResource.of(row))


@router.get("/keys", summary="List API keys, newest first")
def list_keys(service: AdminDep, after: After = None, limit: Limit = 20) -> Page[KeyResource]:
    """Everybody's, those that were revoked or ran out included."""
    with service.sessions() as session:
        page = keys.keys(session, after=after, limit=limit)
    return Page[KeyResource].of(page, KeyResource.of)


@router.post("/keys/{id}/revoke", summary="Revoke an API key")
def revoke_key(key_id: Id, service: AdminDep) -> KeyResource:
    """The key, refused from now on, its sessions in browsers included."""
    with service.sessions.begin() as session:
        return KeyResource.of(keys.revoke(session, key_id))
