"""A cache of decoded images: one .npy file for each part of a data set, which is mapped into memory.

A file's name is a digest of what the images depend on, so a changed data set gets a new file. A record beside it, written
last, holds the shape, the type and the checksum. Images that do not match their record are written again.
"""

import fcntl
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from faal_core import __version__
from faal_core.datasets.image_writers import FileWriter
from faal_core.datasets.mapped_images import ImageArray, iterate_pieces, map_file
from faal_core.errors import DatasetInvalid
from faal_core.progress import Progress

MAX_CACHED_BYTES = 2**40
"""Most bytes of a part's decoded images, and of an archive's content. The disk limits smaller parts."""


@dataclass(frozen=True, slots=True)
class ImageCache:
    """A folder for decoded images.

    Args:
        folder: is created when the first images are written.
        min_bytes: parts whose images have fewer bytes are decoded in memory.
    """

    folder: Path
    min_bytes: int = 0

    def find(self, key: str, progress: Progress) -> ImageArray | None:
        """Return the images of that key; None where there are none, or their file is damaged. Cost: reads the file once."""
        path, record = self._path(key), self._read_record(key)
        if record is None:
            return None
        try:
            with path.open("rb") as file:
                npy.read_magic(file)
                shape, fortran, dtype = npy.read_array_header_1_0(file)
                if (shape, fortran, dtype.str) != (record.shape, False, record.dtype):
                    return None
                array = map_file(file, file.tell(), shape, dtype, self.folder)
        except Exception:  # noqa: BLE001 - no file, a shorter one, or a damaged header, which can raise anything
            return None
        progress.stage("checking the decoded images", len(array.images))
        checksum = 0
        for piece in iterate_pieces(array.images, array.mapping):
            checksum = zlib.crc32(piece.numpy().data, checksum)
            progress.advance(len(piece))
        return ImageArray(array.images, array.mapping, record.notes) if checksum == record.crc32 else None

    def store(self, key: str, write: Callable[[FileWriter], tuple[str, ...]], progress: Progress) -> ImageArray:
        """Write images by calling `write`, and return them, mapped from their new file, with its notes.

        One process writes a file at a time; the others wait and read it.

        Raises: what `write` raises; DatasetInvalid where the folder cannot be written to.
        """
        try:
            with self._lock(key):
                array = self.find(key, progress)  # another process may have written it in the meantime
                if array is None:
                    self._write(key, write)
                    array = self.find(key, progress)
        except OSError as error:
            raise DatasetInvalid(
                f"Decoded images cannot be written to {self.folder}: {error.strerror or error}.", remedy="cache"
            ) from None
        if array is None:
            raise DatasetInvalid(f"{self._path(key)} changed while it was written. Start again.", remedy="cache")
        return array

    def _write(self, key: str, write: Callable[[FileWriter], tuple[str, ...]]) -> None:
        """Write the images' file, and its record last; what another process left unfinished is replaced."""
        record = self.folder / f"{key}.json"
        record.unlink(missing_ok=True)
        writer = FileWriter(self.folder / f"{key}.npy.part")
        try:
            notes = write(writer)
            writer.close()
        except BaseException:
            writer.discard()
            raise
        writer.path.replace(self._path(key))
        partial = record.with_suffix(".json.part")
        content = {"crc32": writer.crc32, "shape": writer.shape, "dtype": writer.dtype.str, "notes": notes}
        partial.write_text(json.dumps(content), "utf-8")
        partial.replace(record)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Hold the key's lock, which the system releases when the process ends. Raises: OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{key}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _read_record(self, key: str) -> "_Record | None":
        """Return the record of the key's images; None where there is no complete record."""
        try:
            record: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_bytes())
            return _Record(
                crc32=int(record["crc32"]),
                shape=tuple(map(int, record["shape"])),
                dtype=str(record["dtype"]),
                notes=tuple(map(str, record["notes"])),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


class _Record(NamedTuple):
    """The description of a file of images."""

    crc32: int
    shape: tuple[int, ...]
    dtype: str
    notes: tuple[str, ...]


def compute_key(*parts: object) -> str:
    """Return the key of images that depend on these values, and on the version of FAAL and of its decoders."""
    from PIL import __version__ as pillow

    from faal_core.torchvision_import import torchvision

    versions = (__version__, pillow, torchvision.__version__, np.__version__)
    return hashlib.sha256(json.dumps([versions, parts], default=str).encode()).hexdigest()[:32]


def stamp_files(paths: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Return what changes when a file does: path, size, and the times of the last changes to content and status."""
    stamps = []
    for path in paths:
        status = path.stat()
        stamps.append((str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return stamps
