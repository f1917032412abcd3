"""Files by content: what is put in gets its SHA-256 as name, so the same bytes are kept once."""

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jobs.errors import StorageFull, UploadTooLarge

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in storage: name (its digest in hexadecimal), bytes and media type."""

    sha256: str
    size: int
    media_type: str


def disk_is_full(error: Exception) -> bool:
    """Whether that exception means that a disk, or somebody's share of it, has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def silent(path: Path, seconds: float) -> bool:
    """Whether nothing was written there for so long. Raises: FileNotFoundError."""
    return time.time() - path.stat().st_mtime > seconds


class Storage:
    """A folder of files by content, shared by api and workers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def put(self, chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> Stored:
        """The chunks as one file, complete and on disk when this returns; nothing is kept otherwise.

        Raises: UploadTooLarge past `limit` bytes, StorageFull when the disk is.
        """
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sha256, size = _write(file, chunks, limit)
                self._keep(partial, self.path(sha256))
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            if disk_is_full(error):
                raise StorageFull(
                    "The disk has no room for this file; nothing of it was kept. Free some space."
                ) from error
            raise
        return Stored(sha256, size, media_type)

    def put_file(self, file: Path, *, media_type: str) -> Stored:
        """A copy of that file, as `put` keeps it. Raises: StorageFull."""
        return self.put(_chunks(file), media_type=media_type)

    def path(self, sha256: str) -> Path:
        """Where the file of that digest is, or would be. Raises: ValueError when it is no digest."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
        return self.root / sha256[:2] / sha256[2:]

    def open(self, sha256: str) -> BinaryIO:
        """The file of that digest, for reading. Raises: FileNotFoundError."""
        return self.path(sha256).open("rb")

    def remove(self, sha256: str) -> None:
        """The file of that digest is gone, if it was there."""
        self.path(sha256).unlink(missing_ok=True)

    def retain(self, digests: Iterable[str]) -> None:
        """Only the files of those digests are left, and nothing of puts that broke off or are still going on."""
        kept = {self.path(sha256) for sha256 in digests}
        for path in self.root.glob("*/*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def silent_for(self, seconds: float) -> Iterator[str]:
        """The digests of files that nobody has put for so long."""
        for path in self.root.glob("??/*"):
            sha256 = path.parent.name + path.name
            with suppress(FileNotFoundError):
                if _SHA256.fullmatch(sha256) and silent(path, seconds):
                    yield sha256

    def forget_broken_off(self, silent_seconds: float) -> None:
        """Nothing is left of puts that have not written for so long: of processes that were killed."""
        for partial in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # another process removed it, or it was kept just now
                if silent(partial, silent_seconds):
                    partial.unlink()

    def _keep(self, partial: Path, target: Path) -> None:
        with suppress(FileNotFoundError):
            os.utime(target)  # it is there already: put anew as far as `silent_for` goes
            return
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)
        for folder in (target.parent, self.root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


def _write(file: BinaryIO, chunks: Iterable[bytes], limit: int | None) -> tuple[str, int]:
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
    os.fsync(file.fileno())
    return digest.hexdigest(), size
