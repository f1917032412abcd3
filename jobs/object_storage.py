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
    Stored,
    copy,
    digest_at,
    pieces_of,
    place_of,
    require_whole,
    room_on_disk,
    write,
)
from jobs.errors import FileLost, StoreUnavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

_PART_BYTES = 5 * 2**20  # S3 takes no smaller parts, and 10,000 of them
_PARTS_AT_ONCE = 2  # what an upload holds in memory
_READ_BYTES = 4 * 2**20  # asked for at once


class ObjectStorage:
    """A bucket, or what lies below a prefix in it, of files by content.

    An object appears whole or not at all, under the digest of what was hashed before it was sent; whatever is sent is signed
    with its digest, so the store takes no other bytes. Reading finds out whether it still has them: `local` and `verified`
    hash what they fetch. Every verb raises StoreUnavailable when the store fails for longer than the patience.

    Args:
        url: `s3://bucket/prefix`. Endpoint and credentials come from the usual variables `AWS_…`.
        spool: a folder of this machine, for files on their way in.
        patience_seconds: how long a request that fails is tried again.
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

    def put(self, chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> Stored:
        """The chunks as one file, complete and in the store when this returns; nothing is kept otherwise.

        What is there already is sent again: the store then has it as put anew.

        Raises: UploadTooLarge past `limit` bytes, StorageFull when this machine's disk is, StoreUnavailable.
        """
        with room_on_disk():
            self._spool.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._spool) as file:  # has no name, so it ends with the process
                sha256, size = write(file, chunks, limit)
                file.seek(0)
                self._keep(file, sha256, size)
        return Stored(sha256, size, media_type)

    def put_file(self, file: Path, *, media_type: str) -> Stored:
        """A copy of that file, as `put` keeps it. Raises: StorageFull, StoreUnavailable."""
        return self.put(pieces_of(file), media_type=media_type)

    def local(self, sha256: str, folder: Path) -> Path:
        """Return the path of a whole copy of that file in the folder, fetched unless it is there. Raises: FileLost."""
        target = folder / sha256
        with suppress(FileNotFoundError, FileLost), target.open("rb") as earlier:
            require_whole(earlier, sha256)
            return target
        try:
            with self.open(sha256) as source:
                copy(source, sha256, target)
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        return target

    def verified(self, sha256: str) -> os.stat_result:
        """Bytes of the file of that digest, which was read and found whole, and when it was put. Raises: FileLost."""
        try:
            status = self.status(sha256)
            with self.open(sha256) as file:
                require_whole(file, sha256)
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        return status

    def open(self, sha256: str) -> BinaryIO:
        """The file of that digest, for reading; fetched piece by piece. Raises: FileNotFoundError."""
        return io.BufferedReader(_Object(self, sha256, self.status(sha256).st_size), _READ_BYTES)

    def read(self, sha256: str, start: int, length: int) -> memoryview:
        """So many bytes of the file of that digest. Raises: FileNotFoundError."""
        with self._finding():
            return memoryview(self._store.get_range(place_of(sha256), start=start, length=length))

    def link(self, sha256: str, seconds: float) -> str:
        """An address at which anybody can fetch the file of that digest, in parts too, for so long."""
        return obstore.sign(self._store, "GET", place_of(sha256), timedelta(seconds=seconds))

    def status(self, sha256: str) -> os.stat_result:
        """Bytes of the file of that digest, and when it was put. Raises: FileNotFoundError."""
        with self._finding():
            found = self._store.head(place_of(sha256))
        at = int(found["last_modified"].timestamp())
        return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, found["size"], at, at, at))

    def exists(self, sha256: str) -> bool:
        """Whether the file of that digest is there."""
        try:
            self.status(sha256)
        except FileNotFoundError:
            return False
        return True

    def remove(self, sha256: str) -> None:
        """The file of that digest is gone, if it was there."""
        with self._asking():
            self._store.delete(place_of(sha256))

    def retain(self, digests: Iterable[str]) -> None:
        """Only the files of those digests are left."""
        kept = {place_of(sha256) for sha256 in digests}
        self._remove([place for found in self._all() if (place := found["path"]) not in kept])

    def silent_for(self, seconds: float) -> Iterator[str]:
        """The digests of files that nobody has put for so long."""
        for found in self._all():
            sha256 = digest_at(found["path"])
            if sha256 is not None and _silent(found, seconds):
                yield sha256

    def forget_broken_off(self, silent_seconds: float) -> None:
        """Nothing to do: what was spooled ends with its process, and the store's own rule forgets parts of uploads."""

    def of_job(self, job_id: str) -> Self:
        """The storage of that job alone, which lies in this one."""
        return type(self)(f"{self._url}/{CHECKPOINTS}/{job_id}", self._spool, self._patience_seconds)

    def jobs(self) -> list[str]:
        """Which jobs have a storage of their own."""
        with self._asking():
            return [
                place.rsplit("/", 1)[-1] for place in self._store.list_with_delimiter(CHECKPOINTS)["common_prefixes"]
            ]

    def silent(self, seconds: float) -> bool:
        """Whether nothing was put into this storage for so long."""
        return all(_silent(found, seconds) for found in self._all())

    def clear(self) -> None:
        """Nothing is left of this storage."""
        self._remove([found["path"] for found in self._all()])

    def _keep(self, file: BinaryIO, sha256: str, size: int) -> None:
        content = file.read() if size <= _PART_BYTES else iter(lambda: file.read(CHUNK_BYTES), b"")
        with self._asking():
            self._store.put(place_of(sha256), content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def _all(self) -> Iterator["ObjectMeta"]:
        with self._asking():
            for batch in self._store.list(chunk_size=1000):
                yield from batch

    def _remove(self, places: list[str]) -> None:
        with self._asking():
            self._store.delete(places)

    @contextmanager
    def _finding(self) -> Iterator[None]:
        """Within, an object is read. Raises: FileNotFoundError when it is not there, StoreUnavailable."""
        try:
            with self._asking(absent=FileNotFoundError):
                yield
        except FileNotFoundError:
            self.jobs()  # where the whole bucket is absent, listing says so
            raise

    @contextmanager
    def _asking(self, absent: type[Exception] | None = None) -> Iterator[None]:
        """Within, whatever the store fails with is StoreUnavailable, but for `absent`."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if absent is not None and isinstance(error, absent):
                raise
            answer = " ".join(str(error).split("Debug source", 1)[0].split())
            logger.warning("the object store failed: %.500s", answer)
            raise StoreUnavailable(_told(error, answer)) from error


class _Object(io.RawIOBase):
    """An object of so many bytes, read like a file."""

    def __init__(self, storage: ObjectStorage, sha256: str, size: int) -> None:
        self._storage, self._sha256, self._size, self._at = storage, sha256, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where it is read from now on."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readall(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: self.read(_READ_BYTES), b""))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives no other
        """How many of the next bytes were put into the buffer; 0 at the end."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        piece = self._storage.read(self._sha256, self._at, wanted)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _silent(found: "ObjectMeta", seconds: float) -> bool:
    return time.time() - found["last_modified"].timestamp() > seconds


def _told(error: Exception, answer: str) -> str:
    """The failure as a sentence that tells strangers nothing of the inside."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "403 Forbidden" in answer:
        return "The object store refuses the service's credentials; whoever runs it sets them (AWS_ACCESS_KEY_ID)."
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in answer:
        return "The object store has no such bucket; whoever runs the service makes it (FAAL_STORE_URL)."
    return "The object store does not answer; try again in a moment."
