"""Links to reports as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from faal_client.resources.objects import Resource


class LinkResource(Resource):
    """A link by which anybody reads the report of a job without an API key, without its secret token."""

    id: str = Field(examples=["link_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["link"] = "link"
    job: str = Field(description="id of the job whose report the link leads to")
    created_by: str | None = Field(
        description="name of the API key that made the link; null if the request needed no key"
    )
    created_at: datetime
    expires_at: datetime


class NewLink(Resource):
    """A new link with its address, which the service does not store and never returns again."""

    object: Literal["new-link"] = "new-link"
    url: str = Field(
        examples=["https://faal.example/shared/…"],
        description="the secret address: every reader who has it can read the report until the link ends",
    )
    resource: LinkResource = Field(alias="about", description="the link without its address")
