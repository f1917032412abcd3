"""Uploads in parts: a large file that resumes after its connection breaks."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.problems.errors import InvalidRequest
from api.schemas.requests import UploadRequest
from api.schemas.rows import describe_upload
from api.serving.dependencies import Id
from api.uploads import receiving
from faal_client.resources.problems import FieldError
from faal_client.resources.uploads import UploadResource
from jobs import partial_uploads, quotas, removal
from jobs.database import read_owner
from jobs.errors import UploadTooLarge

router = APIRouter(tags=["uploads"])


@router.post("/uploads", status_code=201, summary="Begin an upload in parts")
def begin_upload(body: UploadRequest, service: SubmitterDep, response: Response) -> UploadResource:
    """Begin an upload in parts, and return it.

    Send the parts in any order, also in parallel. Then send the upload's id in the field `upload` of `POST /models` or
    `POST /datasets`, instead of a file, and delete the upload. An upload is removed after a day without requests.
    """
    limit, quota = service.settings.upload_limit, service.settings.quota
    if body.size > limit:
        raise UploadTooLarge(
            f"The file has {body.size:,} bytes and may have {limit:,}. Send a smaller file, or have the operator raise the limit."
        )
    with service.sessions.begin() as session:
        owner = read_owner(session)
        quotas.require_room_for_parts(session, owner, quota, body.size)
        upload = describe_upload(partial_uploads.begin(session, owner=owner, size=body.size), [])
    response.headers["Location"] = f"/uploads/{upload.id}"
    return upload


@router.get("/uploads/{id}", summary="Get an upload in parts")
def get_upload(upload_id: Id, service: ReaderDep) -> UploadResource:
    """Return the upload and the parts that have arrived. After a broken connection, send the missing parts."""
    with service.sessions() as session:
        upload = partial_uploads.find(session, upload_id)
        return describe_upload(upload, partial_uploads.list_parts(session, upload_id))


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
    """Store a part, or replace it. The service checks a Content-Digest or Repr-Digest header (sha-256)."""
    with service.sessions() as session:
        upload = partial_uploads.find(session, upload_id)
    partial_uploads.require_open(upload)
    size = partial_uploads.part_size(upload, number)
    if size <= 0:
        detail = f"the upload has no part {number}; its parts are 0 to {-(-upload.size // upload.part_bytes) - 1}"
        raise InvalidRequest(detail, FieldError(parameter="number", detail=detail))
    with receiving.receive_part(request, service, size) as stored, service.sessions.begin() as session:
        replaced = partial_uploads.record_part(session, service.storage, upload_id, number, stored)
    removal.discard(service.sessions, service.storage, replaced)


@router.delete("/uploads/{id}", status_code=204, summary="Delete an upload")
def delete_upload(upload_id: Id, service: SubmitterDep) -> None:
    """Delete an upload and its parts. Models and data sets that were made from it are kept."""
    with service.sessions.begin() as session:
        digests = partial_uploads.remove(session, upload_id)
    removal.discard(service.sessions, service.storage, digests)
