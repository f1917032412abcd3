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

from jobs.content import CHECKPOINTS, Stored, digest_at, pieces_of, place_of, require_whole, room_on_disk, write
from jobs.errors import FileLost, StoreUnavailable


class FolderStorage:
    """A folder of files by content. What a disk has changed or lost since is found out when it is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def put(self, chunks: Iterable[bytes], *, media_type: str, limit: int | None = None) -> Stored:
        """The chunks as one file, complete and on disk when this returns; nothing is kept otherwise.

        Raises: UploadTooLarge past `limit` bytes, StorageFull when the disk is.
        """
        with room_on_disk():
            self._incoming.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sha256, size = write(file, chunks, limit)
                    os.fsync(file.fileno())
                self._keep(partial, self.path(sha256))
            finally:
                partial.unlink(missing_ok=True)
        return Stored(sha256, size, media_type)

    def put_file(self, file: Path, *, media_type: str) -> Stored:
        """A copy of that file, as `put` keeps it. Raises: StorageFull."""
        return self.put(pieces_of(file), media_type=media_type)

    def path(self, sha256: str) -> Path:
        """Where the file of that digest is, or would be. Raises: ValueError when it is no digest."""
        return self.root / place_of(sha256)

    def local(self, sha256: str, folder: Path) -> Path:
        """Where the file of that digest can be read, and was found whole. Raises: FileLost."""
        self.verified(sha256)
        return self.path(sha256)

    def verified(self, sha256: str) -> os.stat_result:
        """Read a file, compare its content with its digest, and return its size and the time when it was put.

        Raises: FileLost; StoreUnavailable where the folder cannot be read.
        """
        try:
            with self.open(sha256) as file:
                require_whole(file, sha256)
                return os.fstat(file.fileno())
        except FileNotFoundError:
            raise FileLost(sha256, damaged=False) from None
        except OSError as error:
            if error.errno in (errno.EIO, errno.EISDIR):  # the disk cannot read it, or something else is in its place
                raise FileLost(sha256, damaged=True) from error
            raise StoreUnavailable(f"The storage cannot be read ({error.strerror}).") from error

    def open(self, sha256: str) -> BinaryIO:
        """The file of that digest, for reading. Raises: FileNotFoundError."""
        return self.path(sha256).open("rb")

    def status(self, sha256: str) -> os.stat_result:
        """Bytes of the file of that digest, and when it was put. Raises: FileNotFoundError."""
        return self.path(sha256).stat()

    def link(self, sha256: str, seconds: float) -> None:
        """None: a folder has no addresses."""

    def exists(self, sha256: str) -> bool:
        """Whether the file of that digest is there."""
        return self.path(sha256).exists()

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
            sha256 = digest_at(f"{path.parent.name}/{path.name}")
            with suppress(FileNotFoundError):
                if sha256 is not None and _silent(path, seconds):
                    yield sha256

    def forget_broken_off(self, silent_seconds: float) -> None:
        """Nothing is left of puts that have not written for so long: of processes that were killed."""
        for partial in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # another process removed it, or it was kept just now
                if _silent(partial, silent_seconds):
                    partial.unlink()

    def of_job(self, job_id: str) -> Self:
        """The storage of that job alone, which lies in this one."""
        return type(self)(self.root / CHECKPOINTS / job_id)

    def jobs(self) -> list[str]:
        """Which jobs have a storage of their own."""
        folder = self.root / CHECKPOINTS
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def silent(self, seconds: float) -> bool:
        """Whether nothing was put into this storage, or taken out, for so long. Raises: FileNotFoundError."""
        return _silent(self.root, seconds)

    def clear(self) -> None:
        """Nothing is left of this storage."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _keep(self, partial: Path, target: Path) -> None:
        """Put the file in its place; one that is there already may be damaged, and is replaced."""
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)
        for folder in (target.parent, self.root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _silent(path: Path, seconds: float) -> bool:
    """Whether nothing was written there for so long. Raises: FileNotFoundError."""
    return time.time() - path.stat().st_mtime > seconds
