"""NumPy .npz archives of images and labels.

An archive with parts has the arrays `train_images`, `train_labels`, `test_images`, `test_labels`, and `validation_images` and
`validation_labels` (or `val_…`). An archive with `images` and `labels` alone is a test part. Images are n × h × w,
n × h × w × c or n × c × h × w, uint8 levels or floats in [0, 1]. Labels are whole numbers from 0, of shape (n,) or (n, 1).
`class_names` may name the classes. `test_group_<column>`, or `group_<column>`, may assign each image to a group of that
column, as strings or whole numbers. `class_groups` may assign each class to a group. Other arrays are ignored.
"""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from faal_core.archives import MAX_BYTES, UnsafeArchive, list_safe_members, open_archive
from faal_core.datasets.array_conversion import convert_groups, convert_labels, convert_to_text
from faal_core.datasets.class_groups import ClassGroups, add_class_groups
from faal_core.datasets.grouping import require_few_columns
from faal_core.datasets.image_cache import MAX_CACHED_BYTES, ImageCache
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.npz_arrays import iterate_images, read_array, read_images
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.progress import NoProgress, Progress
from faal_core.specs import MAX_CLASSES

MAX_ARRAYS = 100
CLASS_GROUPS = "class_groups"
_PREFIXES: dict[Part, tuple[str, ...]] = {
    "train": ("train_",),
    "validation": ("validation_", "val_", "valid_"),
    "test": ("test_", ""),
}
_LABELS = {f"{prefix}labels" for prefixes in _PREFIXES.values() for prefix in prefixes}


def load(path: Path, part: Part, cache: ImageCache | None = None, progress: Progress | None = None) -> LabelledImages:
    """Return one part of the archive; with a cache, images of at least its `min_bytes` are mapped from a file.

    Raises: DatasetInvalid for a missing part, an unsafe archive, or arrays that break a rule.
    """
    title = f"{path.stem} ({part})"
    try:
        with open_archive(path) as archive:
            arrays = _list_arrays(archive, MAX_CACHED_BYTES if cache else MAX_BYTES)
            prefix = _find_prefix(arrays, part)
            labels = {name: convert_labels(read_array(archive, name), name) for name in sorted(arrays & _LABELS)}
            names = _read_class_names(archive, arrays, list(labels.values()))
            images = read_images(archive, f"{prefix}images", title, cache, progress or NoProgress())
            part_labels = labels[f"{prefix}labels"]
            count = len(images.images)
            if count != len(part_labels):
                raise DatasetInvalid(f"{path.name} ({part}): {count} images and {len(part_labels)} labels")
            columns = sorted(name for name in arrays if name.startswith(f"{prefix}group_"))
            require_few_columns(columns)
            groups = [
                convert_groups(read_array(archive, name), name.removeprefix(f"{prefix}group_"), count)
                for name in columns
            ]
            class_groups = read_array(archive, CLASS_GROUPS) if CLASS_GROUPS in arrays else None
    except UnsafeArchive as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None
    require_levels(images, title)
    data = LabelledImages(
        images=images.images,
        labels=torch.from_numpy(part_labels),
        class_names=names,
        name=path.stem,
        part=part,
        groups=tuple(groups),
        preparation=images.notes,
        mapping=images.mapping,
    )
    if class_groups is None:
        return data
    if class_groups.dtype.kind not in "iuU" or class_groups.shape != (len(names),):
        raise DatasetInvalid(
            f"{CLASS_GROUPS} must be strings or whole numbers, one for each of {len(names)} classes, not {class_groups.dtype} of "
            f"shape {class_groups.shape}."
        )
    members = convert_to_text(class_groups, CLASS_GROUPS)
    return add_class_groups(data, ClassGroups(CLASS_GROUPS, {"group": dict(zip(names, members, strict=True))}))


def iterate_chunks(path: Path, part: Part) -> Iterator[np.ndarray]:
    """Yield the part's images as `load` reads them, a few at a time: n × c × h × w, uint8 or float32.

    Raises: DatasetInvalid, UnsafeArchive, and the errors of NumPy and zipfile for a damaged array.
    """
    with open_archive(path) as archive:
        name = f"{_find_prefix(_list_arrays(archive, MAX_CACHED_BYTES), part)}images"
        yield from iterate_images(archive, name)


def list_parts(path: Path) -> tuple[Part, ...]:
    """Return the parts of the archive. Raises: DatasetInvalid."""
    try:
        with open_archive(path) as archive:
            arrays = _list_arrays(archive, MAX_CACHED_BYTES)
    except UnsafeArchive as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None
    return tuple(part for part in _PREFIXES if _find_prefixes(arrays, part))


def _list_arrays(archive: ZipFile, max_bytes: int) -> set[str]:
    """Return the names of the arrays. Raises: UnsafeArchive."""
    members = list_safe_members(archive, most=MAX_ARRAYS, max_bytes=max_bytes)
    return {member.filename.removesuffix(".npy") for member in members}


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


def _read_class_names(archive: ZipFile, arrays: set[str], labels: list[np.ndarray]) -> tuple[str, ...]:
    """Return the class names in the archive, or "0", "1", … up to the largest label of any part."""
    if "class_names" not in arrays:
        return tuple(str(c) for c in range(max(int(part.max()) for part in labels) + 1))
    names = read_array(archive, "class_names")
    if names.dtype.kind != "U" or names.ndim != 1 or not 2 <= len(names) <= MAX_CLASSES:
        raise DatasetInvalid(
            f"class_names must be 2 to {MAX_CLASSES} strings, not {names.dtype} of shape {names.shape}."
        )
    return convert_to_text(names, "class_names")
