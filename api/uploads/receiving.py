"""Stream an uploaded file from the network into storage, or join the parts of an upload in parts.

Files are not spooled. A failed upload leaves no file in storage: an error while the form is read makes the storage drop the
file, and the file of a refused form is discarded.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request

from api.problems.errors import InvalidRequest
from api.serving.dependencies import Service
from api.uploads.body_stream import read_body, require_size
from api.uploads.digests import verify_digests
from api.uploads.upload_reader import HEAD, UploadedForm, UploadReader
from jobs import partial_uploads, quotas, removal
from jobs.errors import QuotaExceeded, UploadTooLarge
from jobs.idempotency import is_key_used
from jobs.storage import StoredFile, describe_chunks

PART = "application/octet-stream"
_UPLOAD = re.compile(r"upload_[0-9a-f]{32}")

Checked = TypeVar("Checked")


@dataclass(frozen=True, slots=True)
class UploadKind(Generic[Checked]):
    """The kind of an upload: a model or a data set.

    Args:
        media_type: returns the file's type by its first bytes; raises for an unsupported type.
        read_form: checks the whole form and returns its content; raises to refuse the upload.
    """

    media_type: Callable[[bytes], str]
    read_form: Callable[[UploadedForm], Checked]


@dataclass(frozen=True, slots=True)
class ReceivedUpload(Generic[Checked]):
    """An uploaded file to register, and the content of its form."""

    file: StoredFile
    form: Checked


@contextmanager
def receive(
    request: Request, service: Service, idempotency_key: str | None, kind: UploadKind[Checked]
) -> Iterator[ReceivedUpload[Checked]]:
    """Store the file of an upload, which the block registers. If the block fails, the file is removed again.

    Blocks on the network: only for routes that run in a thread of the pool.

    Args:
        request: the request with the form as its body.
        idempotency_key: if it was used before, the file is only read and compared, not stored.
        kind: a model or a data set.

    Raises: ServiceBusy, QuotaExceeded, MalformedBody, InvalidRequest, DigestMismatch, UploadTooLarge, UploadTooSlow, StorageFull,
    StoreUnavailable and the errors of the functions of `kind`.
    """
    with service.sessions() as session:
        is_repeated = idempotency_key is not None and is_key_used(session, service.owner, idempotency_key)
        room = None if is_repeated else quotas.room_for_upload(session, service.owner, service.settings.quota)
    with service.uploads.for_owner(service.owner):
        upload = _receive_within(request, service, room, kind, is_repeated=is_repeated)
    if is_repeated:
        yield upload
        return
    with removal.discard_on_failure(service.sessions, service.storage, upload.file):
        yield upload
    # A request of the same key may have been registered in place of this one, and its file removed since.
    removal.discard(service.sessions, service.storage, [upload.file.sha256])


@contextmanager
def receive_part(request: Request, service: Service, size: int) -> Iterator[StoredFile]:
    """Store the body of a request as a part of `size` bytes, which the block registers, as in `receive`.

    Raises: as `receive`; MalformedBody if the part has another size.
    """
    with service.uploads.for_owner(service.owner):
        body = verify_digests(require_size(read_body(request, size), size), request.headers, "part")
        stored = service.storage.put(body, media_type=PART)
    with removal.discard_on_failure(service.sessions, service.storage, stored):
        yield stored


def _receive_within(
    request: Request, service: Service, room: int | None, kind: UploadKind[Checked], *, is_repeated: bool
) -> ReceivedUpload[Checked]:
    """Return the upload, whose file is limited by the largest file and by the `room` left in the quota."""
    quota, limit = service.settings.quota, service.settings.upload_limit
    if room is None or room >= limit:
        return _read_upload(request, service, limit, kind, is_repeated=is_repeated)
    try:
        return _read_upload(request, service, room, kind, is_repeated=is_repeated)
    except UploadTooLarge:
        raise QuotaExceeded("bytes", quota.bytes, quota.bytes - room) from None


def _read_upload(
    request: Request, service: Service, limit: int, kind: UploadKind[Checked], *, is_repeated: bool
) -> ReceivedUpload[Checked]:
    """Read the form, and return its file of at most `limit` bytes, or the file joined from its parts."""
    body = verify_digests(read_body(request, limit), request.headers, "body")
    reader = UploadReader(body, request.headers.get("Content-Type"))
    if reader.upload_id is not None:
        return _put_together(service, reader.upload_id, reader.fields, kind)
    return _store_file(service, reader, limit, kind, is_repeated=is_repeated)


def _store_file(
    service: Service, reader: UploadReader, limit: int, kind: UploadKind[Checked], *, is_repeated: bool
) -> ReceivedUpload[Checked]:
    """Stream the file into storage, and check the form. A repeated upload is only read and compared."""
    put = describe_chunks if is_repeated else service.storage.put
    content = _CheckedContent(reader, kind)
    file = put(content, limit=limit, media_type=kind.media_type(reader.first_bytes))
    return ReceivedUpload(file, content.form)


class _CheckedContent(Generic[Checked]):
    """The file's content. The form is checked before the content ends, so that the storage drops the file of a refused form.

    `form` is the checked form; it exists once the content has been read to its end.
    """

    form: Checked

    def __init__(self, reader: UploadReader, kind: UploadKind[Checked]) -> None:
        self._reader, self._kind = reader, kind

    def __iter__(self) -> Iterator[bytes]:
        yield from self._reader.content()
        self.form = self._kind.read_form(self._reader.form)


def _put_together(
    service: Service, upload_id: str, fields: dict[str, str], kind: UploadKind[Checked]
) -> ReceivedUpload[Checked]:
    """Check the form, then join the uploaded parts into one file.

    Raises: UploadNotFound, UploadIncomplete and the errors of the functions of `kind`.
    """
    if not _UPLOAD.fullmatch(upload_id):
        raise InvalidRequest.for_field(
            "/upload", f"{upload_id[:100]!r} is not the id of an upload; use the one that `POST /uploads` returned"
        )
    head = partial_uploads.read_head(service.sessions, service.storage, upload_id, HEAD)
    media_type, form = kind.media_type(head), kind.read_form(UploadedForm(fields, "", head))
    return ReceivedUpload(
        partial_uploads.assemble(service.sessions, service.storage, upload_id, media_type=media_type), form
    )
