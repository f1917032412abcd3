"""Answer with a file of the storage: whole, a range of it, unchanged, or as a link to the object store."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, BinaryIO, NoReturn

import anyio
import anyio.to_thread
from fastapi import Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable

from api.serving.dependencies import Service
from api.serving.negotiation import is_unchanged
from faal_client.digests import format_digest
from jobs.artifacts import record_lost
from jobs.errors import FileLost

LINK_SECONDS = 300.0


class StoredFileResponse(FileResponse):
    """A response with a file of the storage. Range errors are answered with problems."""

    open: Callable[[], BinaryIO]

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        file = anyio.wrap_file(await anyio.to_thread.run_sync(self.open))
        try:
            yield file
        finally:
            with anyio.CancelScope(shield=True):  # also when the client has disconnected
                await file.aclose()

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # RFC 9110, section 14.2: an invalid Range header is ignored
        except RangeNotSatisfiable:
            _refuse_range(file_size)


def _refuse_range(size: int) -> NoReturn:
    raise HTTPException(
        416,
        f"The requested range is outside the file, which has {size:,} bytes. Request a range within it.",
        headers={"Content-Range": f"bytes */{size}"},
    )


def describe_answers(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the answers of `answer_with_file` for the description of the API."""
    return {
        200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}},
        206: {"description": "The part of the file that Range requests"},
        304: {"description": "The file is the one that you have"},
        307: {"description": "A link to the file in the object store, valid for 5 minutes"},
    }


def answer_with_file(service: Service, request: Request, sha256: str, *, media_type: str, filename: str) -> Response:
    """Verify a file of the storage, and return the response that sends what the request asks for.

    Raises: ServiceBusy, FileLost, StoreUnavailable.

    Args:
        filename: name that a browser gives to the file.
    """
    digest = format_digest(sha256)
    headers = {"ETag": f'"{sha256}"', "Repr-Digest": digest}
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if service.settings.store_links and (link := service.storage.link(sha256, LINK_SECONDS)) is not None:
        return RedirectResponse(link, headers={**headers, "Cache-Control": "no-store"})
    if "Range" not in request.headers:
        headers["Content-Digest"] = digest
    try:
        status = service.downloads.verify(service.storage, sha256, service.owner)
    except FileLost as lost:
        record_lost(service.sessions, lost)
        raise
    response = StoredFileResponse(sha256, media_type=media_type, filename=filename, headers=headers, stat_result=status)
    response.open = partial(service.storage.open, sha256)
    return response
