"""Files by content, as folders and object stores keep them alike: what a file is called, and how it is written and read."""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jobs.errors import FileLost, StorageFull, UploadTooLarge

CHUNK_BYTES = 2**20
CHECKPOINTS = "checkpoints"
"""The part of a storage in which each job has a storage of its own."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in storage: name (its digest in hexadecimal), bytes and media type."""

    sha256: str
    size: int
    media_type: str


def place_of(sha256: str) -> str:
    """Where in a storage the file of that digest is, or would be. Raises: ValueError when it is no digest."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
    return f"{sha256[:2]}/{sha256[2:]}"


def digest_at(place: str) -> str | None:
    """The digest of the file there; nothing where the place is another thing's."""
    sha256 = place.replace("/", "", 1)
    return sha256 if _SHA256.fullmatch(sha256) and place == place_of(sha256) else None


def pieces_of(file: Path) -> Iterator[bytes]:
    """The file's content."""
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk


def write(file: BinaryIO, chunks: Iterable[bytes], limit: int | None) -> tuple[str, int]:
    """Digest and bytes of what was written. Raises: UploadTooLarge past `limit` bytes."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise UploadTooLarge(
                f"The file exceeds {limit:,} bytes; whoever runs the service can set FAAL_UPLOAD_LIMIT."
            )
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    return digest.hexdigest(), size


def stored_as(chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> Stored:
    """Return what the chunks would be stored as; nothing is stored. Raises: UploadTooLarge past `limit` bytes."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        sha256, size = write(nowhere, chunks, limit)
    return Stored(sha256, size, media_type)


def whole_pieces(source: BinaryIO, sha256: str) -> Iterator[bytes]:
    """Yield the content of the file of that digest. Raises: FileLost after the last piece, where it is another content."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise FileLost(sha256, damaged=True)


def require_whole(source: BinaryIO, sha256: str) -> None:
    """Read the file of that digest to its end. Raises: FileLost where it has another content."""
    for _ in whole_pieces(source, sha256):
        pass


def copy(source: BinaryIO, sha256: str, target: Path) -> None:
    """The file of that digest is at `target`, whole and on disk; nothing is there otherwise. Raises: FileLost."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file, whole_pieces(source, sha256), None)
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the user's share of it
# The whole text: one that quotes an upload may hold its end.
_FULL_IN_TEXT = re.compile(rf"(Error while serializing: )?I/O error: [^()]*\(os error ({'|'.join(map(str, _FULL))})\)")


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an exception means that a disk has no room left.

    torch raises another exception on top of the system's, and safetensors puts the system's number into a text.
    """
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return _FULL_IN_TEXT.fullmatch(str(error)) is not None or disk_is_full(error.__cause__ or error.__context__)


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Within, a disk without room is told as such. Raises: StorageFull."""
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise StorageFull("The disk has no room for this file; nothing of it was kept. Free some space.") from error
        raise
