"""Data sets in shards: files of one kind, whose names or folders say which part they belong to."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from faal_core.datasets.class_groups import add_class_groups, read_class_groups
from faal_core.datasets.folder_layout import CLASS_GROUPS, PART_FOLDERS
from faal_core.datasets.image_cache import ImageCache
from faal_core.datasets.image_decoding import EncodedImages, decode_images
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_source import MAX_IMAGES
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.progress import Progress

MAX_SHARDS = 10_000
_DEPTH = 3  # folders from the data set's own to a shard's: <configuration>/<part>/ at the most


def find_suffixes(path: Path) -> set[str]:
    """Return the suffixes of the visible files in the folder and in those below it, `_DEPTH` deep."""
    return {f".{name.rpartition('.')[2]}".lower() for _, name in _iterate_names(path)}


def find_shards(path: Path, suffix: str) -> dict[Part, list[Path]]:
    """Return the shards of each part in the folder, sorted; shards that name no part are test images.

    Raises: DatasetInvalid where only some files name a part, one names two, or the shards of a part are in two folders.
    """
    files = [path] if path.is_file() else sorted(file for file in _iterate_files(path) if file.suffix.lower() == suffix)
    if len(files) > MAX_SHARDS:
        raise DatasetInvalid(f"{path} has more than {MAX_SHARDS:,} files {suffix}.")
    parts = {file: _find_part(file, path) for file in files}
    shards: dict[Part, list[Path]] = {}
    for file, part in parts.items():
        if part is None and any(parts.values()):
            raise DatasetInvalid(
                f"{file} names no part, but other files do. Begin its name with train-, validation- or test-, or move it."
            )
        of_part = shards.setdefault(part or "test", [])
        of_part.append(file)
        if of_part[0].parent != file.parent:
            raise DatasetInvalid(
                f"{of_part[0]} and {file} are of one part, but in two folders. Pass one of the folders."
            )
    return shards


def select_shards(path: Path, suffix: str, part: Part) -> list[Path]:
    """Return the shards of that part. Raises: DatasetInvalid where there are none."""
    shards = find_shards(path, suffix)
    if part not in shards:
        raise DatasetInvalid(
            f"{path.name} has no {part} part. Begin the names of its files with {part}-. Its parts: {', '.join(shards)}.",
            remedy="part" if part == "test" else None,
        )
    return shards[part]


def assemble(
    path: Path,
    part: Part,
    encoded: EncodedImages,
    labels: np.ndarray,
    class_names: tuple[str, ...] | None,
    resizing: Resizing,
    cache: ImageCache | None,
    progress: Progress,
) -> LabelledImages:
    """Return the part with its images decoded.

    Args:
        class_names: "0", "1", … up to the largest label where there are none.

    Raises: DatasetInvalid.
    """
    array = decode_images(encoded, resizing, cache, progress)
    require_levels(array, encoded.title)
    data = LabelledImages(
        images=array.images,
        labels=torch.from_numpy(labels),
        class_names=class_names or tuple(str(c) for c in range(int(labels.max()) + 1)),
        name=name_data_set(path),
        part=part,
        preparation=array.notes,
        mapping=array.mapping,
    )
    table = path / CLASS_GROUPS
    return add_class_groups(data, read_class_groups(table)) if path.is_dir() and table.exists() else data


def name_data_set(path: Path) -> str:
    """Return the data set's name: the folder's, or the file's without its suffix."""
    return path.resolve().name if path.is_dir() else path.stem


def require_few_images(count: int, title: str) -> None:
    """Check the number of images. Raises: DatasetInvalid."""
    if not 1 <= count <= MAX_IMAGES:
        raise DatasetInvalid(f"{title} has {count:,} images; 1 to {MAX_IMAGES:,} are supported.")


def _iterate_files(path: Path) -> Iterator[Path]:
    """Yield the visible files of the folder and of those below it, `_DEPTH` deep. Links to files are followed."""
    return (Path(folder, name) for folder, name in _iterate_names(path))


def _iterate_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield folder and name of each visible file; a path for each of a million files would take seconds."""
    for folder, folders, files in os.walk(path):
        depth = len(Path(folder).relative_to(path).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < _DEPTH else []
        yield from ((folder, name) for name in files if not name.startswith("."))


def _find_part(file: Path, root: Path) -> Part | None:
    """Return the part that the words of the file's name say, or the folder it is in. Raises: DatasetInvalid."""
    folders = file.relative_to(root).parts[:-1] if root.is_dir() else ()
    words = re.split(r"[\W\d_]+", file.stem.casefold())
    parts = {PART_FOLDERS[word] for word in [*words, *(name.casefold() for name in folders)] if word in PART_FOLDERS}
    if len(parts) > 1:
        raise DatasetInvalid(f"{file} names two parts, {' and '.join(sorted(parts))}. Rename it.")
    return next(iter(parts), None)
