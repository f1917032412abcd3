"""Uploads in parts as JSON."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from api.schemas.resources import Resource
from jobs.tables import PartialUpload, UploadPart


class PartResource(Resource):
    """A part that has arrived."""

    number: int = Field(description="number of the part, from 0")
    size: int
    sha256: str

    @classmethod
    def from_row(cls, part: UploadPart) -> Self:
        """Return the part of a row."""
        return cls(number=part.number, size=part.size, sha256=part.sha256)


class UploadResource(Resource):
    """An upload in parts."""

    id: str = Field(examples=["upload_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["upload"] = "upload"
    size: int = Field(description="size of the whole file in bytes")
    part_bytes: int = Field(description="size of each part in bytes; the last part has the rest")
    parts: list[PartResource] = Field(description="parts that have arrived; empty after they were joined into one file")
    sha256: str | None = Field(description="SHA-256 of the whole file; null until its parts were joined")
    created_at: datetime

    @classmethod
    def from_row(cls, upload: PartialUpload, parts: list[UploadPart]) -> Self:
        """Return the upload of a row, with the rows of its parts."""
        return cls(
            id=upload.id,
            size=upload.size,
            part_bytes=upload.part_bytes,
            parts=[PartResource.from_row(part) for part in parts],
            sha256=upload.sha256,
            created_at=upload.created_at,
        )
