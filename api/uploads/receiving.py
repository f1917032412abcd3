"""An uploaded file and its form fields, streamed from the network straight into storage; or one that came in parts before.

Nothing is spooled, and nothing stays in memory but the fields and the first bytes of the file. The pieces handed to
storage end only after the whole form was read and found in order, so whatever is wrong with an upload, in front of the
file, in it or behind it, makes storage drop what it has.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.problems.errors import InvalidRequest, MalformedBody, UploadTooSlow
from api.serving.dependencies import Service
from api.uploads.digests import verified
from api.uploads.multipart import MultipartReader, Part, boundary_of
from jobs import partial_uploads, quotas, removal
from jobs.errors import QuotaExceeded, UploadTooLarge
from jobs.idempotency import was_used
from jobs.storage import Stored, stored_as

BATCH = 512 * 1024  # bytes asked from the event loop at a time
PATIENCE = 30.0  # seconds in which a batch has to come; whoever sends byte by byte would keep a place for ever
HEAD = 1024 * 1024 + 8  # bytes kept for the check: the longest safetensors header that is accepted, and its length
FIELD_LIMIT = 1024 * 1024  # bytes in one form field
FIELDS_LIMIT = 20  # form fields in one upload
PART = "application/octet-stream"
_UPLOAD = re.compile(r"upload_[0-9a-f]{32}")

Checked = TypeVar("Checked")


@dataclass(frozen=True, slots=True)
class Form:
    """An upload without its content: the fields around the file, the client's name for it, its first `HEAD` bytes."""

    fields: Mapping[str, str]
    filename: str
    head: bytes


@dataclass(frozen=True, slots=True)
class Received(Generic[Checked]):
    """An uploaded file that is to be registered, and what its form says."""

    file: Stored
    form: Checked


@contextmanager
def receive(
    request: Request,
    service: Service,
    idempotency_key: str | None,
    *,
    media_type: Callable[[bytes], str],
    check: Callable[[Form], Checked],
) -> Iterator[Received[Checked]]:
    """Store the file of an upload; within, it is registered, and where that fails it is removed again.

    Blocks on the network: for routes that run in a thread of the pool.

    Args:
        request: whose body is the form.
        idempotency_key: with one that was used before the upload is read, compared and not stored.
        media_type: tells the file's type by its first bytes; raises for a kind that is not accepted.
        check: judges the whole form; what it raises refuses the upload.

    Raises: ServiceBusy, QuotaExceeded, MalformedBody, InvalidRequest, DigestMismatch, UploadTooLarge, UploadTooSlow, StorageFull,
    StoreUnavailable and what the two callables raise.
    """
    with service.sessions() as session:
        again = idempotency_key is not None and was_used(session, service.owner, idempotency_key)
        left = None if again else quotas.room_for_upload(session, service.owner, service.settings.quota)
    put = stored_as if again else service.storage.put
    with service.uploads.of(service.owner):
        file, checked = _read(request, service, put, left, media_type, check)
    if again:
        yield Received(file, checked)
        return
    with removal.discarded_on_failure(service.sessions, service.storage, file):
        yield Received(file, checked)
    # A request of the same key may have been registered in place of this one, and its file removed since.
    removal.discard(service.sessions, service.storage, [file.sha256])


@contextmanager
def receive_part(request: Request, service: Service, size: int) -> Iterator[Stored]:
    """Store the body of a request, a part of `size` bytes of an upload; within, it is registered, as by `receive`.

    Raises: as `receive`; MalformedBody for another size.
    """
    with service.uploads.of(service.owner):
        body = verified(_exactly(_body(request, size), size), request.headers, "part")
        stored = service.storage.put(body, media_type=PART)
    with removal.discarded_on_failure(service.sessions, service.storage, stored):
        yield stored


def _read(
    request: Request,
    service: Service,
    put: Callable[..., Stored],
    left: int | None,
    media_type: Callable[[bytes], str],
    check: Callable[[Form], Checked],
) -> tuple[Stored, Checked]:
    """Return the file as `put` stored it, and what `check` made of the form. `left` bytes have room in the quota."""
    quota, limit = service.settings.quota, service.settings.upload_limit
    if left is None or left >= limit:
        return _stored(request, service, put, limit, media_type, check)
    try:
        return _stored(request, service, put, left, media_type, check)
    except UploadTooLarge:
        raise QuotaExceeded("bytes", quota.bytes, quota.bytes - left) from None


def _stored(
    request: Request,
    service: Service,
    put: Callable[..., Stored],
    limit: int,
    media_type: Callable[[bytes], str],
    check: Callable[[Form], Checked],
) -> tuple[Stored, Checked]:
    """Likewise, of a file of at most `limit` bytes."""
    body = verified(_body(request, limit), request.headers, "body")
    form = MultipartReader(body, boundary_of(request.headers.get("Content-Type")))
    fields: dict[str, str] = {}
    file = _read_fields(form, fields)
    if file is None and (upload := fields.pop("upload", None)):
        return _put_together(service, upload, fields, media_type, check)
    if file is None or not file.filename:
        raise InvalidRequest.at("/file", 'the form has no file in a part named "file", and names no upload')
    pieces = verified(form.pieces(), file.headers, "file")
    head = bytearray()
    while len(head) < 16 and (piece := next(pieces, b"")):
        head += piece
    first = bytes(head)
    del head[HEAD:]
    checked: list[Checked] = []

    def content() -> Iterator[bytes]:
        yield first
        for piece in pieces:
            head.extend(piece[: max(0, HEAD - len(head))])
            yield piece
        if _read_fields(form, fields) is not None:
            raise InvalidRequest.at("/file", "an upload has one file")
        checked.append(check(Form(fields, file.filename or "", bytes(head))))

    stored = put(content(), limit=limit, media_type=media_type(first))
    return stored, checked[0]


def _put_together(
    service: Service,
    upload: str,
    fields: Mapping[str, str],
    media_type: Callable[[bytes], str],
    check: Callable[[Form], Checked],
) -> tuple[Stored, Checked]:
    """Likewise, of a file that came in parts. Raises: UploadNotFound, UploadIncomplete and what the two callables raise."""
    if not _UPLOAD.fullmatch(upload):
        raise InvalidRequest.at("/upload", "this is no upload's id; `POST /uploads` gives one")
    head = partial_uploads.head(service.sessions, service.storage, upload, HEAD)
    kind, checked = media_type(head), check(Form(fields, "", head))
    return partial_uploads.whole(service.sessions, service.storage, upload, media_type=kind), checked


def _body(request: Request, limit: int) -> Iterator[bytes]:
    """The body as it arrives, in pieces of about `BATCH` bytes.

    Raises: MalformedBody when the client goes away; UploadTooSlow when a piece takes longer than `PATIENCE`; UploadTooLarge
    when all of it is more than a file of `limit` bytes and its fields, whatever stands behind the form.
    """
    stream = request.stream()

    async def batch(wanted: int) -> bytes:
        pieces, size = [], 0
        with anyio.fail_after(PATIENCE):
            async for piece in stream:
                pieces.append(piece)
                size += len(piece)
                if size >= wanted:
                    break
        return b"".join(pieces)

    most, size = limit + (FIELDS_LIMIT + 1) * FIELD_LIMIT, int(request.headers.get("Content-Length", "0"))
    arrived, wanted = 0, 1  # the first bytes at once: they tell what is not accepted
    try:
        while max(size, arrived) <= most and (piece := anyio.from_thread.run(batch, wanted)):
            yield piece
            arrived, wanted = arrived + len(piece), BATCH
    except ClientDisconnect:
        raise MalformedBody("The upload broke off.") from None
    except TimeoutError:
        slow = f"Less than {BATCH:,} bytes came within {PATIENCE:g} s, and the upload was not complete. Send it again."
        raise UploadTooSlow(slow) from None
    if max(size, arrived) > most:
        raise UploadTooLarge(f"The upload has more than the {limit:,} bytes a file may have here.")


def _exactly(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """`pieces` as they are. Raises: MalformedBody where they have more or fewer bytes than `size`."""
    arrived = 0
    for piece in pieces:
        arrived += len(piece)
        if arrived > size:
            break
        yield piece
    if arrived != size:
        raise MalformedBody(f"This part has {size:,} bytes, and {arrived:,} or more arrived.")


def _read_fields(form: MultipartReader, fields: dict[str, str]) -> Part | None:
    """The next file part; the fields in front of it, or up to the end when there is none, are added to `fields`."""
    while (part := form.next_part()) is not None:
        pointer = f"/{part.name}"
        if part.filename is not None and part.name == "file":
            return part
        if part.filename is not None or part.name == "file":
            raise InvalidRequest.at(pointer, 'the file, and nothing else, is sent as a file in the part named "file"')
        if part.name in fields:
            raise InvalidRequest.at(pointer, "the field was sent twice")
        if len(fields) == FIELDS_LIMIT:
            raise InvalidRequest.at(pointer, f"a form has at most {FIELDS_LIMIT} fields")
        content = bytearray()
        for piece in form.pieces():
            content += piece
            if len(content) > FIELD_LIMIT:
                raise InvalidRequest.at(pointer, f"a field has at most {FIELD_LIMIT:,} bytes")
        try:
            fields[part.name] = content.decode()
        except UnicodeDecodeError:
            raise InvalidRequest.at(pointer, "the field is not UTF-8") from None
    return None
