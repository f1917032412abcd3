"""API keys as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from faal_client.resources.objects import Resource
from faal_client.vocabulary import Scope


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


class NewKey(Resource):
    """A new API key with its secret, which the service does not store and never returns again."""

    object: Literal["new-key"] = "new-key"
    key: str = Field(examples=["faal_…"], description="the secret key; send it as `Authorization: Bearer faal_…`")
    resource: KeyResource = Field(alias="about", description="the key without its secret")
