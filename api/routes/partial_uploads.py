"""Uploads in parts: a large file that goes on where it was when a connection breaks."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Request, Response
from pydantic import ConfigDict, Field

from api.access.authentication import ReaderDep, SubmitterDep
from api.problems.errors import FieldError, InvalidRequest
from api.schemas.resources import Resource
from api.serving.dependencies import Id
from api.uploads import receiving
from faal_core.specs import Spec
from jobs import partial_uploads, quotas, removal
from jobs.errors import UploadTooLarge
from jobs.tables import PartialUpload, UploadPart

router = APIRouter(tags=["uploads"])


class UploadRequest(Spec):
    """A file that will come in parts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"size": 1_073_741_824}]})

    size: int = Field(ge=1, description="of the whole file, in bytes")


class PartResource(Resource):
    """A part that is there."""

    number: int = Field(description="from 0")
    size: int
    sha256: str

    @classmethod
    def of(cls, part: UploadPart) -> Self:
        """The part of that row."""
        return cls(number=part.number, size=part.size, sha256=part.sha256)


class UploadResource(Resource):
    """A file that comes in parts."""

    id: str = Field(examples=["upload_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["upload"] = "upload"
    size: int = Field(description="of the whole file, in bytes")
    part_bytes: int = Field(description="of each part; the last one has what is left")
    parts: list[PartResource] = Field(description="those that are there; none any more once they were put together")
    sha256: str | None = Field(description="of the whole file, once its parts were put together")
    created_at: datetime

    @classmethod
    def of(cls, upload: PartialUpload, parts: list[UploadPart]) -> Self:
        """The upload of these rows."""
        return cls(
            id=upload.id,
            size=upload.size,
            part_bytes=upload.part_bytes,
            parts=[PartResource.of(part) for part in parts],
            sha256=upload.sha256,
            created_at=upload.created_at,
        )


@router.post("/uploads", status_code=201, summary="Begin an upload in parts")
def begin_upload(body: UploadRequest, service: SubmitterDep, response: Response) -> UploadResource:
    """The upload, of which nothing is there yet.

    Send its parts in any order, also at the same time; then name it in the field `upload` of `POST /models` or
    `POST /datasets`, in place of a file, and delete it. What nobody touches for a day is forgotten.
    """
    limit, quota = service.settings.upload_limit, service.settings.quota
    if body.size > limit:
        raise UploadTooLarge(f"A file may have {limit:,} bytes here.")
    with service.sessions.begin() as session:
        quotas.require_room_for_parts(session, service.owner, quota, body.size)
        upload = UploadResource.of(partial_uploads.begin(session, owner=service.owner, size=body.size), [])
    response.headers["Location"] = f"/uploads/{upload.id}"
    return upload


@router.get("/uploads/{id}", summary="Which parts of an upload are there")
def get_upload(upload_id: Id, service: ReaderDep) -> UploadResource:
    """The upload: after a break, send the parts that are not there."""
    with service.sessions() as session:
        upload = partial_uploads.find(session, upload_id)
        return UploadResource.of(upload, partial_uploads.parts(session, upload_id))


@router.put(
    "/uploads/{id}/parts/{number}",
    status_code=204,
    summary="Send a part of an upload",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {receiving.PART: {"schema": {"type": "string", "format": "binary", "examples": ["…"]}}},
        }
    },
)
def send_part(
    upload_id: Id, number: Annotated[int, Path(ge=0, le=1_000_000)], service: SubmitterDep, request: Request
) -> None:
    """Nothing: the part is there, whether it was before or not. A Content-Digest or Repr-Digest (sha-256) is checked."""
    with service.sessions() as session:
        upload = partial_uploads.find(session, upload_id)
    partial_uploads.require_open(upload)
    size = partial_uploads.part_size(upload, number)
    if size <= 0:
        detail = f"the file has no part {number}; they are counted from 0"
        raise InvalidRequest(detail, FieldError(parameter="number", detail=detail))
    with receiving.receive_part(request, service, size) as stored, service.sessions.begin() as session:
        replaced = partial_uploads.keep_part(session, service.storage, upload_id, number, stored)
    removal.discard(service.sessions, service.storage, replaced)


@router.delete("/uploads/{id}", status_code=204, summary="Forget an upload")
def delete_upload(upload_id: Id, service: SubmitterDep) -> None:
    """Remove the upload and its parts; models and data sets that were made of it stay."""
    with service.sessions.begin() as session:
        digests = partial_uploads.remove(session, upload_id)
    removal.discard(service.sessions, service.storage, digests)
