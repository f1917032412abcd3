"""Images in a file that is mapped into memory: the operating system reads the pages that are used.

The functions that read images release their pages again, so that the memory of the process stays small.
"""

import mmap
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

PIECE_BYTES = 2**25  # a piece and its copies stay small beside a network, and a larger one is no faster
_COPY_BYTES = 2**28  # rows of a mapped file that take more are copied into a file, not into memory


@dataclass(frozen=True, eq=False)
class FileMapping:
    """The memory of a mapped file.

    Args:
        memory: the mapping, read-only.
        folder: where copies of many rows are written; they are deleted with the last reference to them.
    """

    memory: mmap.mmap
    folder: Path

    def release(self) -> None:
        """Drop the file's pages from this process; the next use reads them again, mostly from the system's cache."""
        self.memory.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images as one tensor, in memory or in a mapped file.

    Args:
        images: `n c h w`, uint8 or float32; a mapped file's tensor must not be written to.
        mapping: the file's mapping; None where the images are in memory.
        notes: one sentence for each step from the stored images to these.
    """

    images: Tensor
    mapping: FileMapping | None = None
    notes: tuple[str, ...] = ()


def map_file(file: IO[bytes], offset: int, shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> ImageArray:
    """Return the array at that offset of the file, which the mapping keeps open. Raises: OSError, ValueError."""
    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.ndarray(shape, dtype, memory, offset)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return ImageArray(torch.from_numpy(array), FileMapping(memory, folder))


def iterate_pieces(images: Tensor, mapping: FileMapping | None) -> Iterator[Tensor]:
    """Yield the images in order, `PIECE_BYTES` at a time, and release each piece's pages after its use."""
    for piece in images.split(_rows_in_a_piece(images)):
        yield piece
        if mapping:
            mapping.release()


def take_rows(images: Tensor, mapping: FileMapping | None, rows: Tensor) -> ImageArray:
    """Return a copy of those rows: in memory, or in a temporary file where they are many rows of a mapped file.

    Raises: OSError where there is no room for the file.
    """
    if mapping is None:
        return ImageArray(images[rows])
    if len(rows) * _bytes_per_image(images) <= _COPY_BYTES:
        taken = images[rows]
        mapping.release()
        return ImageArray(taken)
    pieces = _iterate_rows(images, mapping, rows)
    return write_temporary(pieces, (len(rows), *images.shape[1:]), images.dtype, mapping.folder)


def write_temporary(pieces: Iterable[Tensor], shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> ImageArray:
    """Return the pieces as one array in a file without a name, which exists as long as its mapping. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in pieces:
            file.write(piece.contiguous().numpy().data)
        file.flush()
        return map_file(file, 0, shape, torch.empty(0, dtype=dtype).numpy().dtype, folder)


def _iterate_rows(images: Tensor, mapping: FileMapping, rows: Tensor) -> Iterator[Tensor]:
    """Yield those rows as `iterate_pieces` yields all."""
    for some in rows.split(_rows_in_a_piece(images)):
        yield images[some]
        mapping.release()


def _rows_in_a_piece(images: Tensor) -> int:
    """Return the number of images in a piece, at least one."""
    return max(1, PIECE_BYTES // max(1, _bytes_per_image(images)))


def _bytes_per_image(images: Tensor) -> int:
    """Return the size of one image."""
    return images[:1].numel() * images.element_size()
