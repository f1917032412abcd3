"""Storage in an object store that speaks S3, so that machines share no folder."""

import io
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from jobs.content import (
    CHECKPOINTS,
    CHUNK_BYTES,
    StoredFile,
    copy_verified,
    digest_from_path,
    full_disk_errors,
    read_chunks,
    relative_path,
    require_intact,
    write_chunks,
)
from jobs.errors import FileLost, StoreUnavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

_PART_BYTES = 5 * 2**20  # S3 takes no smaller parts, and 10,000 of them
_PARTS_AT_ONCE = 2  # what an upload holds in memory
_READ_BYTES = 4 * 2**20  # asked for at once


class ObjectStorage:
    """A bucket, or the part of it below a prefix, of files by content.

    An object appears whole or not at all, under the digest of its content, which is computed before it is sent. The request is
    signed with the digest, so the store takes no other bytes. `fetch` and `verify` hash the content again when they read it.
    Every method raises StoreUnavailable when the store fails for longer than the patience.

    Args:
        url: `s3://bucket/prefix`. Endpoint and credentials come from the usual variables `AWS_…`.
        spool: a folder of this machine, for files on their way in.
        patience_seconds: how long a failed request is repeated.
    """

    def __init__(self, url: str, spool: Path, patience_seconds: float) -> None:
        self._url, self._spool, self._patience_seconds = url.rstrip("/"), spool, patience_seconds
        self._store = S3Store.from_url(
            self._url,
            client_options={"allow_http": True},  # where the endpoint says so
            retry_config={
                "max_retries": 1000,
                "retry_timeout": timedelta(seconds=patience_seconds),
                "backoff": {"max_backoff": timedelta(seconds=5)},
            },
        )

    def put(self, chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> StoredFile:
        """Store the chunks as one file, complete and in the store when this returns; on an error nothing is stored.

        A file that the store has already is sent again, so its time of storing is now.

        Raises: UploadTooLarge past `limit` bytes, StorageFull when this machine's disk is full, StoreUnavailable.
        """
        with full_disk_errors():
            self._spool.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._spool) as file:  # has no name, so it ends with the process
                sha256, size = write_chunks(file, chunks, limit)
                file.seek(0)
                self._store_file(file, sha256, size)
        return StoredFile(sha256, size, media_type)

    def put_file(self, file: Path, *, media_type: str) -> StoredFile:
        """Store a copy of that file, as `put` does. Raises: StorageFull, StoreUnavailable."""
        return self.put(read_chunks(file), media_type=media_type)

    def fetch(self, sha256: str, folder: Path) -> Path:
        """Return the path of an intact copy of that file in the folder, downloaded unless it is there. Raises: FileLost."""
        target = folder / sha256
        with suppress(FileNotFoundError, FileLost), target.open("rb") as earlier:
            require_intact(earlier, sha256)
            return target
        try:
            with self.open(sha256) as source:
                copy_verified(source, sha256, target)
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        return target

    def verify(self, sha256: str) -> os.stat_result:
        """Read a file, compare its content with its digest, and return its size and time of storing. Raises: FileLost."""
        try:
            status = self.stat(sha256)
            with self.open(sha256) as file:
                require_intact(file, sha256)
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        return status

    def open(self, sha256: str) -> BinaryIO:
        """Open the file of that digest for reading, downloaded piece by piece. Raises: FileNotFoundError."""
        return io.BufferedReader(_Object(self, sha256, self.stat(sha256).st_size), _READ_BYTES)

    def read(self, sha256: str, start: int, length: int) -> memoryview:
        """Return `length` bytes from `start` of the file of that digest. Raises: FileNotFoundError."""
        with self._object_errors():
            return memoryview(self._store.get_range(relative_path(sha256), start=start, length=length))

    def link(self, sha256: str, seconds: float) -> str:
        """Return an address from which anybody can download the file, whole or in parts, for `seconds`."""
        return obstore.sign(self._store, "GET", relative_path(sha256), timedelta(seconds=seconds))

    def stat(self, sha256: str) -> os.stat_result:
        """Return the size of the file of that digest and the time when it was put. Raises: FileNotFoundError."""
        with self._object_errors():
            meta = self._store.head(relative_path(sha256))
        time_put = int(meta["last_modified"].timestamp())
        return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, meta["size"], time_put, time_put, time_put))

    def exists(self, sha256: str) -> bool:
        """Return whether the file of that digest is in storage."""
        try:
            self.stat(sha256)
        except FileNotFoundError:
            return False
        return True

    def remove(self, sha256: str) -> None:
        """Remove the file of that digest if it is in storage."""
        with self._store_errors():
            self._store.delete(relative_path(sha256))

    def retain(self, digests: Iterable[str]) -> None:
        """Remove all files but those of these digests."""
        retained = {relative_path(sha256) for sha256 in digests}
        self._remove([path for meta in self._list_all() if (path := meta["path"]) not in retained])

    def list_untouched(self, seconds: float) -> Iterator[str]:
        """Yield the digests of files that were last put more than `seconds` ago."""
        for meta in self._list_all():
            sha256 = digest_from_path(meta["path"])
            if sha256 is not None and _is_untouched(meta, seconds):
                yield sha256

    def remove_unfinished(self, silent_seconds: float) -> None:
        """Leave unfinished files alone.

        Spooled files are removed with their process, and the store's own rule removes parts of uploads.
        """

    def for_job(self, job_id: str) -> Self:
        """Return the storage of that job alone, which is a part of this one."""
        return type(self)(f"{self._url}/{CHECKPOINTS}/{job_id}", self._spool, self._patience_seconds)

    def list_jobs(self) -> list[str]:
        """Return the ids of the jobs that have a storage of their own."""
        with self._store_errors():
            return [path.rsplit("/", 1)[-1] for path in self._store.list_with_delimiter(CHECKPOINTS)["common_prefixes"]]

    def is_untouched(self, seconds: float) -> bool:
        """Return whether the last file was put into this storage more than `seconds` ago."""
        return all(_is_untouched(meta, seconds) for meta in self._list_all())

    def clear(self) -> None:
        """Remove all files of this storage."""
        self._remove([meta["path"] for meta in self._list_all()])

    def _store_file(self, file: BinaryIO, sha256: str, size: int) -> None:
        content = file.read() if size <= _PART_BYTES else iter(lambda: file.read(CHUNK_BYTES), b"")
        with self._store_errors():
            self._store.put(relative_path(sha256), content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def _list_all(self) -> Iterator["ObjectMeta"]:
        with self._store_errors():
            for batch in self._store.list(chunk_size=1000):
                yield from batch

    def _remove(self, paths: list[str]) -> None:
        with self._store_errors():
            self._store.delete(paths)

    @contextmanager
    def _object_errors(self) -> Iterator[None]:
        """Raise FileNotFoundError where the block reads an object that is not there, and StoreUnavailable for other failures."""
        try:
            with self._store_errors(absent=FileNotFoundError):
                yield
        except FileNotFoundError:
            self.list_jobs()  # where the whole bucket is absent, listing says so
            raise

    @contextmanager
    def _store_errors(self, absent: type[Exception] | None = None) -> Iterator[None]:
        """Raise StoreUnavailable for every failure of the store in the block, but let `absent` through."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if absent is not None and isinstance(error, absent):
                raise
            answer = " ".join(str(error).split("Debug source", 1)[0].split())
            logger.warning("the object store failed: %.500s", answer)
            raise StoreUnavailable(_public_message(error, answer)) from error


class _Object(io.RawIOBase):
    """An object of `size` bytes, read like a file."""

    def __init__(self, storage: ObjectStorage, sha256: str, size: int) -> None:
        self._storage, self._sha256, self._size, self._position = storage, sha256, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> int:
        """Move to that position and return it."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[origin]
        return self._position

    def readall(self) -> bytes:
        """Return the rest of the object."""
        return b"".join(iter(lambda: self.read(_READ_BYTES), b""))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives no other
        """Fill the buffer with the next bytes and return their number; 0 at the end."""
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        piece = self._storage.read(self._sha256, self._position, count)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def _is_untouched(meta: "ObjectMeta", seconds: float) -> bool:
    return time.time() - meta["last_modified"].timestamp() > seconds


def _public_message(error: Exception, answer: str) -> str:
    """Return a sentence about the failure that reveals nothing of the installation."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "403 Forbidden" in answer:
        return "The object store refuses the service's credentials. The administrator sets them (AWS_ACCESS_KEY_ID)."
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in answer:
        return "The object store has no such bucket. The administrator creates it (FAAL_STORE_URL)."
    return "The object store does not answer. Try again in a moment."
