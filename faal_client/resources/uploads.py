"""Uploads in parts as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from faal_client.resources.objects import Resource


class PartResource(Resource):
    """A part that has arrived."""

    number: int = Field(description="number of the part, from 0")
    size: int
    sha256: str


class UploadResource(Resource):
    """An upload in parts."""

    id: str = Field(examples=["upload_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["upload"] = "upload"
    size: int = Field(description="size of the whole file in bytes")
    part_bytes: int = Field(description="size of each part in bytes; the last part has the rest")
    parts: list[PartResource] = Field(description="parts that have arrived; empty after they were joined into one file")
    sha256: str | None = Field(description="SHA-256 of the whole file; null until its parts were joined")
    created_at: datetime
