"""Where decoded images are collected, one after the other: in memory, or in a file of the cache."""

import os
import shutil
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.lib import format as npy

from faal_core.archives import MAX_BYTES
from faal_core.errors import DatasetInvalid

_DISK_RESERVE = 2**28  # bytes that a cache leaves free for ledgers and reports


class ImageWriter(Protocol):
    """Collects a known number of images of one shape."""

    def begin(self, count: int, image: np.ndarray) -> None:
        """Reserve room for `count` images like this one. Raises: DatasetInvalid, OSError."""

    def append(self, images: np.ndarray) -> None:
        """Add one or more images, n × c × h × w, to those before."""

    def widen(self) -> None:
        """Give three equal channels to the grey images so far, and to the room for the others."""


class MemoryWriter:
    """Collects images in memory; `images` is the result."""

    def __init__(self) -> None:
        self._array, self._rows = np.empty((0, 1, 1, 1), np.uint8), 0

    def begin(self, count: int, image: np.ndarray) -> None:
        """Reserve the memory. Raises: DatasetInvalid where the images take more than `MAX_BYTES`."""
        if image.nbytes * count > MAX_BYTES:
            raise DatasetInvalid(
                f"{count:,} images of {image.nbytes:,} bytes exceed {MAX_BYTES:,} bytes in memory.", remedy="cache"
            )
        self._array = np.empty((count, *image.shape), image.dtype)

    def append(self, images: np.ndarray) -> None:
        """Copy the images into the memory."""
        self._array[self._rows : self._rows + len(images)] = images
        self._rows += len(images)

    def widen(self) -> None:
        """Copy the grey images into memory for three channels."""
        grey = self._array
        self.begin(len(grey), np.broadcast_to(grey[0], (3, *grey.shape[2:])))
        self._array[: self._rows] = grey[: self._rows]

    @property
    def images(self) -> torch.Tensor:
        """Return the images."""
        return torch.from_numpy(self._array)


class FileWriter:
    """Collects images in an .npy file, with a checksum.

    Args:
        path: the file; one that exists is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.crc32, self.shape, self.dtype = path, 0, (0, 1, 1, 1), np.dtype(np.uint8)
        self._rows, self._file = 0, path.open("wb+")

    def begin(self, count: int, image: np.ndarray) -> None:
        """Write the header. Raises: DatasetInvalid where the disk has no room for the images."""
        needed, free = image.nbytes * count, shutil.disk_usage(self.path.parent).free
        if needed > free - _DISK_RESERVE:
            raise DatasetInvalid(
                f"The decoded images take {needed:,} bytes, and the disk of {self.path.parent} has {free:,} bytes free.",
                remedy="cache",
            )
        self.crc32, self.shape, self.dtype, self._rows = 0, (count, *image.shape), image.dtype, 0
        self._file.seek(0)
        self._file.truncate()
        npy.write_array_header_1_0(
            self._file, {"descr": npy.dtype_to_descr(image.dtype), "fortran_order": False, "shape": self.shape}
        )

    def append(self, images: np.ndarray) -> None:
        """Write the images at the end of the file."""
        content = np.ascontiguousarray(np.broadcast_to(images, (len(images), *self.shape[1:]))).data
        self.crc32 = zlib.crc32(content, self.crc32)
        self._file.write(content)
        self._rows += len(images)

    def widen(self) -> None:
        """Write the grey images again, with three channels, into a new file of that path."""
        rows, count, sides = self._rows, self.shape[0], self.shape[2:]
        self._file.seek(0)
        npy.read_magic(self._file)
        npy.read_array_header_1_0(self._file)
        with self._file as grey:
            self.path.unlink()
            self._file = self.path.open("wb+")
            self.begin(count, np.empty((3, *sides), np.uint8))
            for _ in range(rows):
                self.append(np.frombuffer(grey.read(sides[0] * sides[1]), np.uint8).reshape(1, 1, *sides))

    def close(self) -> None:
        """Write everything to the disk, and close the file. Raises: OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)
