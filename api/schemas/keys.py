"""API keys as JSON."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from api.schemas.resources import Resource
from jobs.keys import Scope
from jobs.tables import ApiKey


class KeyResource(Resource):
    """An API key without its secret."""

    id: str = Field(examples=["key_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["key"] = "key"
    owner: str
    name: str
    scopes: list[Scope]
    max_priority: int = Field(description="highest priority of the jobs that are submitted with the key")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def from_row(cls, row: ApiKey) -> Self:
        """Return the key of a row."""
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
    """A new API key with its secret, which the service does not store and never returns again."""

    object: Literal["new-key"] = "new-key"
    key: str = Field(examples=["faal_…"], description="the secret key; send it as `Authorization: Bearer faal_…`")
    resource: KeyResource = Field(alias="about", description="the key without its secret")
