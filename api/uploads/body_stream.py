"""Stream the body of an upload from the network, with limits of time and size."""

from collections.abc import Iterator

import anyio
import anyio.from_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.problems.errors import MalformedBody, UploadTooSlow
from api.uploads.upload_reader import FIELD_LIMIT, FIELDS_LIMIT
from jobs.errors import UploadTooLarge

BATCH = 512 * 1024  # bytes requested from the event loop at a time
PATIENCE = (
    30.0  # seconds within which a batch must arrive; otherwise a client that sends single bytes would keep its place
)
FORM_BYTES = (FIELDS_LIMIT + 1) * FIELD_LIMIT  # most bytes of a body without its file: the fields and the boundaries


def read_body(request: Request, limit: int) -> Iterator[bytes]:
    """Yield the body of a request as it arrives, in pieces of about `BATCH` bytes.

    Blocks on the network: only for routes that run in a thread of the pool.

    Args:
        request: the request with the body.
        limit: maximum bytes of the file in the body.

    Raises:
        MalformedBody: the client disconnects.
        UploadTooSlow: a piece takes longer than `PATIENCE`.
        UploadTooLarge: the whole body, including content after the form, exceeds the sum of `limit` and `FORM_BYTES`.
    """
    stream = request.stream()

    async def read_batch(batch_size: int) -> bytes:
        pieces, size = [], 0
        with anyio.fail_after(PATIENCE):
            async for piece in stream:
                pieces.append(piece)
                size += len(piece)
                if size >= batch_size:
                    break
        return b"".join(pieces)

    most, announced = limit + FORM_BYTES, int(request.headers.get("Content-Length", "0"))
    arrived, batch_size = 0, 1  # read the first bytes at once: they reveal a file of an unsupported type
    try:
        while max(announced, arrived) <= most and (piece := anyio.from_thread.run(read_batch, batch_size)):
            yield piece
            arrived, batch_size = arrived + len(piece), BATCH
    except ClientDisconnect:
        raise MalformedBody("The connection closed before the whole body arrived. Send the upload again.") from None
    except TimeoutError:
        raise UploadTooSlow(
            f"Less than {BATCH:,} bytes arrived within {PATIENCE:g} s, and the upload was not complete. Send it again."
        ) from None
    if max(announced, arrived) > most:
        raise UploadTooLarge(
            f"The upload exceeds {limit:,} bytes, the most that a file may have. Send a smaller file, or ask the operator to "
            "raise the limit."
        )


def require_size(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the pieces unchanged. Raises: MalformedBody if they have more or fewer bytes than `size`."""
    arrived = 0
    for piece in pieces:
        arrived += len(piece)
        if arrived > size:
            break
        yield piece
    if arrived != size:
        received = f"at least {arrived:,}" if arrived > size else f"{arrived:,}"
        raise MalformedBody(
            f"This part must have {size:,} bytes, but {received} arrived. Send it again with its exact content."
        )
