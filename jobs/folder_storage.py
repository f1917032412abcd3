"""Storage in a folder, which api and workers share."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from jobs.content import (
    CHECKPOINTS,
    StoredFile,
    digest_from_path,
    full_disk_errors,
    read_chunks,
    relative_path,
    require_intact,
    write_chunks,
)
from jobs.errors import FileLost, StoreUnavailable


class FolderStorage:
    """A folder of files by content. Reading a file finds out whether the disk has lost or changed it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def put(self, chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> StoredFile:
        """Store the chunks as one file, complete and on disk when this returns; on an error nothing is stored.

        Raises: UploadTooLarge past `limit` bytes, StorageFull when the disk is full.
        """
        with full_disk_errors():
            self._incoming.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sha256, size = write_chunks(file, chunks, limit)
                    os.fsync(file.fileno())
                self._store_file(partial, self.path(sha256))
            finally:
                partial.unlink(missing_ok=True)
        return StoredFile(sha256, size, media_type)

    def put_file(self, file: Path, *, media_type: str) -> StoredFile:
        """Store a copy of that file, as `put` does. Raises: StorageFull."""
        return self.put(read_chunks(file), media_type=media_type)

    def path(self, sha256: str) -> Path:
        """Return the path that the file of that digest has or would have. Raises: ValueError when it is no digest."""
        return self.root / relative_path(sha256)

    def fetch(self, sha256: str, folder: Path) -> Path:
        """Return the path of the file of that digest, after a check of its content. Raises: FileLost."""
        self.verify(sha256)
        return self.path(sha256)

    def verify(self, sha256: str) -> os.stat_result:
        """Read a file, compare its content with its digest, and return its size and the time when it was put.

        Raises: FileLost; StoreUnavailable where the folder cannot be read.
        """
        try:
            with self.open(sha256) as file:
                require_intact(file, sha256)
                return os.fstat(file.fileno())
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        except OSError as error:
            if error.errno in (errno.EIO, errno.EISDIR):  # the disk cannot read it, or something else is in its place
                raise FileLost(sha256, damaged=True) from error
            raise StoreUnavailable(f"The storage cannot be read ({error.strerror}). Try again in a moment.") from error

    def open(self, sha256: str) -> BinaryIO:
        """Open the file of that digest for reading. Raises: FileNotFoundError."""
        return self.path(sha256).open("rb")

    def stat(self, sha256: str) -> os.stat_result:
        """Return the size of the file of that digest and the time when it was put. Raises: FileNotFoundError."""
        return self.path(sha256).stat()

    def link(self, sha256: str, seconds: float) -> None:
        """Return None: a folder has no addresses."""

    def exists(self, sha256: str) -> bool:
        """Return whether the file of that digest is in storage."""
        return self.path(sha256).exists()

    def remove(self, sha256: str) -> None:
        """Remove the file of that digest if it is in storage."""
        self.path(sha256).unlink(missing_ok=True)

    def retain(self, digests: Iterable[str]) -> None:
        """Remove all files but those of these digests, and what unfinished puts have written."""
        retained = {self.path(sha256) for sha256 in digests}
        for path in self.root.glob("*/*"):
            if path not in retained:
                path.unlink(missing_ok=True)

    def list_untouched(self, seconds: float) -> Iterator[str]:
        """Yield the digests of files that were last put more than `seconds` ago."""
        for path in self.root.glob("??/*"):
            sha256 = digest_from_path(f"{path.parent.name}/{path.name}")
            with suppress(FileNotFoundError):
                if sha256 is not None and _is_untouched(path, seconds):
                    yield sha256

    def remove_unfinished(self, silent_seconds: float) -> None:
        """Remove files of unfinished puts that were last written more than `silent_seconds` ago: their processes were killed."""
        for partial in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # another process removed it, or it was stored just now
                if _is_untouched(partial, silent_seconds):
                    partial.unlink()

    def for_job(self, job_id: str) -> Self:
        """Return the storage of that job alone, which is a part of this one."""
        return type(self)(self.root / CHECKPOINTS / job_id)

    def list_jobs(self) -> list[str]:
        """Return the ids of the jobs that have a storage of their own."""
        folder = self.root / CHECKPOINTS
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def is_untouched(self, seconds: float) -> bool:
        """Return whether this storage was last written to more than `seconds` ago. Raises: FileNotFoundError."""
        return _is_untouched(self.root, seconds)

    def clear(self) -> None:
        """Remove this storage with all its files."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _store_file(self, partial: Path, target: Path) -> None:
        """Move the file to its path; a file that is there already may be damaged, and is replaced."""
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)
        for folder in (target.parent, self.root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _is_untouched(path: Path, seconds: float) -> bool:
    """Return whether the path was last written to more than `seconds` ago. Raises: FileNotFoundError."""
    return time.time() - path.stat().st_mtime > seconds
