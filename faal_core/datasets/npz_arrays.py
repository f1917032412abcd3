"""The arrays of an .npz archive: read in memory, or mapped from a file where they are large."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import torch
from numpy.lib import format as npy

from faal_core.archives import MAX_BYTES
from faal_core.datasets.array_conversion import convert_images, move_channels_first
from faal_core.datasets.image_cache import MAX_CACHED_BYTES, ImageCache, compute_key, stamp_files
from faal_core.datasets.image_file import MAX_PIXELS
from faal_core.datasets.image_writers import ImageWriter
from faal_core.datasets.mapped_images import ImageArray, iterate_pieces, map_file
from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.progress import Progress

MAX_DIMENSIONS = 4
CHUNK_BYTES = 2**24
_MAX_IMAGE_BYTES = 4 * MAX_PIXELS  # the memory that the largest image file takes
_ZIP_HEADER = 30  # bytes of a member's header before its name
_ZIP_NAME_SIZES = 26  # bytes of that header before the lengths of the name and of the extra field


def read_array(archive: ZipFile, name: str) -> np.ndarray:
    """Return the array of that name.

    Differs: np.load allocates what a header claims, and may unpickle. This does neither.

    Raises: DatasetInvalid.
    """
    with _explain_faults(name):
        with archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _read_header(file)
            _require_plain(shape, dtype, MAX_BYTES)
            content = file.read()
        array = np.ndarray(shape, dtype, content, order="F" if fortran else "C")
    if array.nbytes != len(content):
        raise DatasetInvalid(f"{name} states shape {shape} of {dtype}, but the archive holds more bytes for it.")
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return the array's shape, whether the first axis varies fastest, and the type."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _require_plain(shape: tuple[int, ...], dtype: np.dtype, max_bytes: int) -> None:
    """Check that an array holds numbers or text and is small enough. Raises: ValueError."""
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise ValueError("its elements have fields or are arrays themselves; store one array for each")
    if dtype.itemsize == 0:
        raise ValueError(f"its elements have no bytes ({dtype})")
    if len(shape) > MAX_DIMENSIONS or any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    if max(shape, default=0) > max_bytes or math.prod(shape) * dtype.itemsize > max_bytes:
        raise ValueError(f"it states shape {shape} of {dtype}; at most {max_bytes:,} bytes are read")


def iterate_images(archive: ZipFile, name: str) -> Iterator[np.ndarray]:
    """Yield the images of that array, a few at a time. Raises: ValueError where one is too large."""
    with archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _read_header(file)
        _require_plain(shape, dtype, MAX_BYTES if fortran else MAX_CACHED_BYTES)
        size = math.prod(shape[1:]) * dtype.itemsize
        if size > _MAX_IMAGE_BYTES:
            raise ValueError(f"one of its images has {size:,} bytes; at most {_MAX_IMAGE_BYTES:,} are read")
        if fortran:  # then an image's pixels are spread over the whole array
            yield convert_images(read_array(archive, name))
            return
        while content := file.read(size * max(1, CHUNK_BYTES // max(1, size))):
            yield convert_images(np.frombuffer(content, dtype).reshape(-1, *shape[1:]))


def read_images(archive: ZipFile, name: str, title: str, cache: ImageCache | None, progress: Progress) -> ImageArray:
    """Return the images of that array: in memory, or mapped from the archive itself or from the cache.

    Raises: DatasetInvalid.
    """
    header = _read_image_header(archive, name) if cache else None
    if cache is None or header is None or header.converted_bytes < cache.min_bytes:
        return ImageArray(torch.from_numpy(convert_images(read_array(archive, name))))
    path = Path(str(archive.filename))
    with _explain_faults(name):
        mapped = _map_images(path, archive.getinfo(f"{name}.npy"), header, cache.folder)
    if mapped:
        return mapped
    key = compute_key(stamp_files([path]), name)
    subject = f"unpacking {title} into {cache.folder}"
    return cache.find(key, progress) or cache.store(
        key, lambda writer: _unpack(writer, archive, name, header.shape[0], subject, progress), progress
    )


class _ImageHeader(NamedTuple):
    """The header of an array of images, and its length in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int

    @property
    def converted_bytes(self) -> int:
        """Return the size of the images as float32 or uint8."""
        return math.prod(self.shape) * (4 if self.dtype.kind == "f" else self.dtype.itemsize)


def _read_image_header(archive: ZipFile, name: str) -> _ImageHeader:
    """Return the header of that array. Raises: DatasetInvalid."""
    with _explain_faults(name), archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _read_header(file)
        _require_plain(shape, dtype, MAX_BYTES if fortran else MAX_CACHED_BYTES)
        length = file.tell()
    move_channels_first(np.broadcast_to(np.zeros((), np.uint8), shape))  # checks the shape; takes no memory
    if not shape[0]:
        raise DatasetInvalid(f"{name} has no images.")
    return _ImageHeader(shape, fortran, dtype, length)


def _map_images(path: Path, member: ZipInfo, header: _ImageHeader, folder: Path) -> ImageArray | None:
    """Return the images mapped from the archive; None where its bytes are not those of the images, one after the other.

    Raises: DatasetInvalid where the bytes do not have the archive's checksum.
    """
    size = math.prod(header.shape) * header.dtype.itemsize
    with path.open("rb") as file:
        file.seek(member.header_offset + _ZIP_NAME_SIZES)
        start = member.header_offset + _ZIP_HEADER + sum(struct.unpack("<HH", file.read(4)))
        offset = start + header.length
        is_plain = member.compress_type == ZIP_STORED and member.file_size == header.length + size
        is_usable = (
            header.dtype in (np.uint8, np.float32) and offset % header.dtype.itemsize == 0 and not header.fortran
        )
        if not (is_plain and is_usable):
            return None
        file.seek(start)
        checksum = zlib.crc32(file.read(header.length))
        array = map_file(file, offset, header.shape, header.dtype, folder)
    for piece in iterate_pieces(array.images, array.mapping):
        checksum = zlib.crc32(piece.numpy().data, checksum)
    if checksum != member.CRC:
        raise DatasetInvalid(f"{member.filename} does not have the checksum that {path.name} states.")
    return ImageArray(torch.from_numpy(move_channels_first(array.images.numpy())), array.mapping)


def _unpack(
    writer: ImageWriter, archive: ZipFile, name: str, count: int, subject: str, progress: Progress
) -> tuple[str, ...]:
    """Append the images of that array to the writer. Raises: DatasetInvalid."""
    progress.stage(subject, count)
    rows = 0
    with _explain_faults(name):
        for images in iterate_images(archive, name):
            if not rows:
                writer.begin(count, images[0])
            writer.append(images)
            rows += len(images)
            progress.advance(len(images))
    if rows != count:
        raise DatasetInvalid(f"{name} states {count:,} images, but the archive holds {rows:,}.")
    return ()


@contextmanager
def _explain_faults(name: str) -> Iterator[None]:
    """Turn what a damaged header or stream raises into an error. Raises: DatasetInvalid, OutOfMemory."""
    try:
        yield
    except DatasetInvalid:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged header or stream can raise anything
        require_memory(error, f"to read {name}")
        raise DatasetInvalid(f"{name} cannot be read as an array: {str(error)[:200]}") from None
