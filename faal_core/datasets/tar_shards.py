"""WebDataset tar files: the members `000001.jpg` and `000001.cls` are an image and its label.

Members with one name up to its first dot are one sample. A tar file is never extracted.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from faal_core.datasets import shards
from faal_core.datasets.folder_layout import SUFFIXES
from faal_core.datasets.image_cache import ImageCache, stamp_files
from faal_core.datasets.image_decoding import EncodedImages
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_source import MAX_FILE_BYTES, MAX_IMAGES
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.progress import Progress
from faal_core.specs import MAX_CLASSES

SUFFIX = ".tar"
LABEL = "cls"
_MAX_HEADER_BYTES = 2**16  # of a long name or an extended header, which the reader would load whole
_MAX_LABEL_BYTES = 100
_MAX_MEMBERS = 8 * MAX_IMAGES  # of a file: samples may have more fields than image and label
_MAGIC_OFFSET, _MAGIC = 257, b"ustar"


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image within a tar file, and its label."""

    name: str
    offset: int
    size: int
    label: int


def is_shard(path: Path) -> bool:
    """Return whether the file begins as an uncompressed tar file does. Raises: OSError."""
    with path.open("rb") as file:
        file.seek(_MAGIC_OFFSET)
        return file.read(len(_MAGIC)) == _MAGIC


def load(path: Path, part: Part, resizing: Resizing, cache: ImageCache | None, progress: Progress) -> LabelledImages:
    """Return one part of the file or folder.

    Raises: DatasetInvalid where a file or one of its images breaks a rule.
    """
    files = shards.select_shards(path, SUFFIX, part)
    title = f"{shards.name_data_set(path)} ({part})"
    samples = [(file, _list_samples(file)) for file in files]
    labels = np.array([sample.label for _, of_file in samples for sample in of_file], np.int64)
    shards.require_few_images(len(labels), title)
    encoded = EncodedImages(
        title=title,
        count=len(labels),
        iterate=lambda: (image for file, of_file in samples for image in _iterate_images(file, of_file)),
        stamp=lambda: stamp_files(files),
    )
    return shards.assemble(path, part, encoded, labels, None, resizing, cache, progress)


class _HeaderReader:
    """A file for `tarfile`, which reads headers and skips contents; longer reads are refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises: DatasetInvalid for more than a header has."""
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise DatasetInvalid(f"a header has {size:,} bytes; at most {_MAX_HEADER_BYTES:,} are read")
        return self._file.read(size)


def _list_samples(path: Path) -> list[_Sample]:
    """Return the samples of the file in their order. Raises: DatasetInvalid for what is no sample, and for unsafe members."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_HeaderReader(file), mode="r:") as archive:  # type: ignore[call-overload]  # its stub wants more methods than it calls
            count = 0
            while (member := archive.next()) is not None:
                archive.members.clear()  # they would fill the memory, and nothing looks one up by name
                count += 1
                _require_plain(member, count)
                key, _, field = PurePosixPath(member.name).name.partition(".")
                if member.isdir() or not key or key.startswith("__"):  # hidden files and WebDataset's own metadata
                    continue
                key = str(PurePosixPath(member.name).with_name(key))
                field = field.lower()
                if f".{field}" in SUFFIXES:
                    _require_new(key, images, "images")
                    images[key] = member
                elif field == LABEL:
                    _require_new(key, labels, "labels")
                    labels[key] = _parse_label(member, os.pread(file.fileno(), _MAX_LABEL_BYTES, member.offset_data))
    except DatasetInvalid as error:
        raise DatasetInvalid(f"{path.name} is refused: {error.message}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged header can raise anything, a chain of long names RecursionError
        require_memory(error, f"to read {path.name}")
        raise DatasetInvalid(f"{path.name} cannot be read as a tar file: {str(error)[:200]}") from None
    if incomplete := images.keys() ^ labels.keys():
        key = min(incomplete)
        missing = f"label {key}.{LABEL}" if key in images else "image"
        raise DatasetInvalid(f"{path.name}: the sample {key} has no {missing}. Each sample needs an image and a label.")
    return [
        _Sample(f"{path.name}/{member.name}", member.offset_data, member.size, labels[key])
        for key, member in images.items()
    ]


def _require_plain(member: tarfile.TarInfo, count: int) -> None:
    """Check that a member is a file or folder of a safe name and size. Raises: DatasetInvalid."""
    path, name = PurePosixPath(member.name), repr(member.name[:200])
    if count > _MAX_MEMBERS:
        raise DatasetInvalid(f"it has more than {_MAX_MEMBERS:,} members")
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise DatasetInvalid(f"the name {name} leads out of the archive")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DatasetInvalid(f"{name} is a link, a device or a sparse file")
    if not 0 <= member.size <= MAX_FILE_BYTES:
        raise DatasetInvalid(f"{name} has {member.size:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def _require_new(key: str, known: dict[str, tarfile.TarInfo] | dict[str, int], kind: str) -> None:
    """Check that the sample has no image or label yet. Raises: DatasetInvalid."""
    if key in known:
        raise DatasetInvalid(f"the sample {key!r} has two {kind}")
    if len(known) >= MAX_IMAGES:
        raise DatasetInvalid(f"it has more than {MAX_IMAGES:,} {kind}")


def _parse_label(member: tarfile.TarInfo, content: bytes) -> int:
    """Return the label in the content of that member. Raises: DatasetInvalid."""
    text = content[: member.size].decode("ascii", "replace").strip()
    if member.size > _MAX_LABEL_BYTES or not text.isdecimal() or int(text) >= MAX_CLASSES:
        raise DatasetInvalid(f"{member.name} holds {text[:20]!r}; a label is a whole number in 0…{MAX_CLASSES - 1}")
    return int(text)


def _iterate_images(path: Path, samples: Sequence[_Sample]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each image. Raises: DatasetInvalid."""
    try:
        with path.open("rb") as file:
            for sample in samples:
                yield sample.name, os.pread(file.fileno(), sample.size, sample.offset)
    except OSError as error:
        raise DatasetInvalid(f"{path.name} cannot be read: {error.strerror or error}.") from None
