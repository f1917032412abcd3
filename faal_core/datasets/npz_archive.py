"""NumPy .npz archives of images and labels.

An archive with parts has the arrays `train_images`, `train_labels`, `test_images`, `test_labels`, and `validation_images` and
`validation_labels` (or `val_…`). An archive with `images` and `labels` alone is a test part. Images are n × h × w,
n × h × w × c or n × c × h × w, uint8 levels or floats in [0, 1]. Labels are whole numbers from 0, of shape (n,) or (n, 1).
`class_names` may name the classes. `test_group_<column>`, or `group_<column>`, may assign each image to a group of that
column, as strings or whole numbers. Other arrays are ignored.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from zipfile import ZipFile

import numpy as np
import torch
from numpy.lib import format as npy

from faal_core.archives import MAX_BYTES, UnsafeArchive, list_safe_members, open_archive
from faal_core.datasets.array_conversion import convert_groups, convert_images, convert_labels, convert_to_text
from faal_core.datasets.grouping import require_few_columns
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.specs import MAX_CLASSES

MAX_ARRAYS = 100
MAX_DIMENSIONS = 4
CHUNK_BYTES = 2**24
_PREFIXES: dict[Part, tuple[str, ...]] = {
    "train": ("train_",),
    "validation": ("validation_", "val_", "valid_"),
    "test": ("test_", ""),
}
_LABELS = {f"{prefix}labels" for prefixes in _PREFIXES.values() for prefix in prefixes}


def load(path: Path, part: Part) -> LabelledImages:
    """Return one part of the archive.

    Raises: DatasetInvalid for a missing part, an unsafe archive, or arrays that break a rule.
    """
    try:
        with open_archive(path) as archive:
            arrays = _list_arrays(archive)
            prefix = _find_prefix(arrays, part)
            labels = {name: convert_labels(_read_array(archive, name), name) for name in sorted(arrays & _LABELS)}
            names = _read_class_names(archive, arrays, list(labels.values()))
            images, part_labels = convert_images(_read_array(archive, f"{prefix}images")), labels[f"{prefix}labels"]
            if len(images) != len(part_labels):
                raise DatasetInvalid(f"{path.name} ({part}): {len(images)} images and {len(part_labels)} labels")
            columns = sorted(name for name in arrays if name.startswith(f"{prefix}group_"))
            require_few_columns(columns)
            groups = [
                convert_groups(_read_array(archive, name), name.removeprefix(f"{prefix}group_"), len(images))
                for name in columns
            ]
    except UnsafeArchive as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None
    require_levels(images, f"{path.stem} ({part})")
    return LabelledImages(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(part_labels),
        class_names=names,
        name=path.stem,
        part=part,
        groups=tuple(groups),
    )


def iterate_chunks(path: Path, part: Part) -> Iterator[np.ndarray]:
    """Yield the part's images as `load` reads them, a few at a time: n × c × h × w, uint8 or float32.

    Raises: DatasetInvalid, UnsafeArchive, and the errors of NumPy and zipfile for a damaged array.
    """
    with open_archive(path) as archive:
        name = f"{_find_prefix(_list_arrays(archive), part)}images"
        with archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _read_header(file)
            _require_plain(shape, dtype)
            if fortran:  # then an image's pixels are spread over the whole array
                yield convert_images(_read_array(archive, name))
                return
            size = math.prod(shape[1:]) * dtype.itemsize
            while content := file.read(size * max(1, CHUNK_BYTES // max(1, size))):
                yield convert_images(np.frombuffer(content, dtype).reshape(-1, *shape[1:]))


def list_parts(path: Path) -> tuple[Part, ...]:
    """Return the parts of the archive. Raises: DatasetInvalid."""
    try:
        with open_archive(path) as archive:
            arrays = _list_arrays(archive)
    except UnsafeArchive as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None
    return tuple(part for part in _PREFIXES if _find_prefixes(arrays, part))


def _list_arrays(archive: ZipFile) -> set[str]:
    """Return the names of the arrays. Raises: UnsafeArchive."""
    return {member.filename.removesuffix(".npy") for member in list_safe_members(archive, most=MAX_ARRAYS)}


def _find_prefixes(arrays: set[str], part: Part) -> list[str]:
    """Return the prefixes of `images` and `labels` for that part, where the archive has both."""
    return [prefix for prefix in _PREFIXES[part] if {f"{prefix}images", f"{prefix}labels"} <= arrays]


def _find_prefix(arrays: set[str], part: Part) -> str:
    """Return the prefix of `images` and `labels` for that part: "" in an archive without parts, which is a test part.

    Raises: DatasetInvalid where there is none.
    """
    prefixes = _find_prefixes(arrays, part)
    if not prefixes:
        raise DatasetInvalid(
            f"The archive has no {part} part: it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}. Name its arrays "
            f"{part}_images and {part}_labels; images and labels alone are a test part.",
            remedy="part" if part == "test" else None,
        )
    return prefixes[0]


def _read_array(archive: ZipFile, name: str) -> np.ndarray:
    """Return the array of that name.

    Differs: np.load allocates what a header claims, and may unpickle. This does neither.

    Raises: DatasetInvalid.
    """
    try:
        with archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _read_header(file)
            _require_plain(shape, dtype)
            content = file.read()
        array = np.ndarray(shape, dtype, content, order="F" if fortran else "C")
    except Exception as error:  # noqa: BLE001 - a damaged header or stream can raise anything
        require_memory(error, f"to read {name}")
        raise DatasetInvalid(f"{name} cannot be read as an array: {str(error)[:200]}") from None
    if array.nbytes != len(content):
        raise DatasetInvalid(f"{name} states shape {shape} of {dtype}, but the archive holds more bytes for it.")
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return the array's shape, whether the first axis varies fastest, and the type."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _require_plain(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Check that an array holds numbers or text and is small enough. Raises: ValueError."""
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise ValueError("its elements have fields or are arrays themselves; store one array for each")
    if dtype.itemsize == 0:
        raise ValueError(f"its elements have no bytes ({dtype})")
    if len(shape) > MAX_DIMENSIONS or any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    if max(shape, default=0) > MAX_BYTES or math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"it states shape {shape} of {dtype}; at most {MAX_BYTES:,} bytes are read")


def _read_class_names(archive: ZipFile, arrays: set[str], labels: list[np.ndarray]) -> tuple[str, ...]:
    """Return the class names in the archive, or "0", "1", … up to the largest label of any part."""
    if "class_names" not in arrays:
        return tuple(str(c) for c in range(max(int(part.max()) for part in labels) + 1))
    names = _read_array(archive, "class_names")
    if names.dtype.kind != "U" or names.ndim != 1 or not 2 <= len(names) <= MAX_CLASSES:
        raise DatasetInvalid(
            f"class_names must be 2 to {MAX_CLASSES} strings, not {names.dtype} of shape {names.shape}."
        )
    return convert_to_text(names, "class_names")
