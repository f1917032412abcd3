"""Files by content, as folders and object stores hold them: their names, and how they are written, read and checked."""

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
class StoredFile:
    """A file in storage: name (its digest in hexadecimal), bytes and media type."""

    sha256: str
    size: int
    media_type: str


def relative_path(sha256: str) -> str:
    """Return the path of the file of that digest below a storage's root. Raises: ValueError when it is no digest."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
    return f"{sha256[:2]}/{sha256[2:]}"


def digest_from_path(path: str) -> str | None:
    """Return the digest of the file at that path below a storage's root; None where the path is no file's."""
    sha256 = path.replace("/", "", 1)
    return sha256 if _SHA256.fullmatch(sha256) and path == relative_path(sha256) else None


def read_chunks(file: Path) -> Iterator[bytes]:
    """Yield the file's content."""
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def write_chunks(file: BinaryIO, chunks: Iterable[bytes], limit: int | None) -> tuple[str, int]:
    """Write the chunks, and return their digest and number of bytes. Raises: UploadTooLarge past `limit` bytes."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise UploadTooLarge(
                f"The file exceeds {limit:,} bytes. Send a smaller file, or ask the administrator to raise FAAL_UPLOAD_LIMIT."
            )
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    return digest.hexdigest(), size


def describe_chunks(chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> StoredFile:
    """Return the file that the chunks would be stored as, without storing it. Raises: UploadTooLarge past `limit` bytes."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        sha256, size = write_chunks(nowhere, chunks, limit)
    return StoredFile(sha256, size, media_type)


def verified_chunks(source: BinaryIO, sha256: str) -> Iterator[bytes]:
    """Yield the content of the file of that digest. Raises: FileLost after the last chunk if the content has another digest."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise FileLost(sha256, damaged=True)


def require_intact(source: BinaryIO, sha256: str) -> None:
    """Read the file of that digest to its end. Raises: FileLost if the content has another digest."""
    for _ in verified_chunks(source, sha256):
        pass


def copy_verified(source: BinaryIO, sha256: str, target: Path) -> None:
    """Write the file of that digest to `target` and to disk; on an error nothing is left there. Raises: FileLost."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write_chunks(file, verified_chunks(source, sha256), None)
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the user's quota on it
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
def full_disk_errors() -> Iterator[None]:
    """Raise StorageFull where the block meets a disk without room."""
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise StorageFull(
                "The disk is full, so the file was not stored. Free some space, then try again."
            ) from error
        raise
