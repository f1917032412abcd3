"""Data sets by name or path: `load` returns one part as two tensors.

A path leads to a folder or .zip of images, an .npz archive, Parquet files, or WebDataset tar files. Archives come from
strangers. Their content decides their kind. They are read in memory and never extracted.
"""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

from faal_core import catalog
from faal_core.archives import UnsafeArchive, open_archive
from faal_core.datasets import image_folder, npz_archive, parquet_shards, tar_shards
from faal_core.datasets.class_groups import add_class_groups, read_class_groups
from faal_core.datasets.class_order import NameOrder, align_labels
from faal_core.datasets.folder_layout import SUFFIXES
from faal_core.datasets.image_cache import ImageCache
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_folder import Reading
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.shards import find_shards, find_suffixes
from faal_core.errors import DatasetInvalid, DatasetMissing, InvalidSpec, UnknownName
from faal_core.progress import NoProgress, Progress

__all__ = [
    "ImageCache",
    "LabelledImages",
    "NameOrder",
    "Part",
    "Reading",
    "Resizing",
    "align_labels",
    "is_archive_of_arrays",
    "list_parts",
    "load",
]

_SHARD_READERS = (parquet_shards, tar_shards)


def load(
    ref: str,
    part: Part,
    *,
    root: Path | None = None,
    download: bool = False,
    reading: Reading | None = None,
    class_groups: Path | None = None,
    cache: ImageCache | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    """Return one part of the data set `ref`: a catalog name, or the path of files in one of the supported layouts.

    Args:
        root: the folder of named data sets; the bundled one needs none.
        download: whether files that are missing from `root` are downloaded into it.
        reading: options for image files; arrays and named data sets accept only the defaults.
        class_groups: a CSV or JSON file that assigns each class to a group; adds a column of groups to the data.
        cache: holds decoded images in files; without one, all images are in memory.
        progress: receives the stages of decoding; it may raise `Cancelled`.

    Raises: UnknownName where `ref` is neither a name nor a path; DatasetMissing; DatasetInvalid; InvalidSpec for options
        that do not apply to the data set.
    """
    data = _load(ref, part, root, reading, cache, progress or NoProgress(), download=download)
    return add_class_groups(data, read_class_groups(class_groups)) if class_groups else data


def _load(
    ref: str,
    part: Part,
    root: Path | None,
    reading: Reading | None,
    cache: ImageCache | None,
    progress: Progress,
    *,
    download: bool,
) -> LabelledImages:
    """Return the part without groups of an extra file. Raises: as `load`."""
    known = catalog.datasets()
    if ref in known:
        _require_no_reading(ref, reading)
        entry = known[ref]
        named: LabelledImages = resolve_name(entry.builder)(part, root=root, download=download)
        return replace(named, augmentation=entry.augmentation) if entry.augmentation else named
    path = _find_path(ref)
    if shards := _find_shard_reader(path):
        _require_no_class_order(path.name, reading)
        return shards.load(path, part, (reading or Reading()).resizing, cache, progress)
    if is_archive_of_arrays(path):
        _require_no_reading(path.name, reading)
        return npz_archive.load(path, part, cache, progress)
    return image_folder.load(path, part, reading or Reading(), cache, progress)


def list_parts(ref: str) -> tuple[Part, ...]:
    """Return the parts of the data set `ref` without decoding an image; a named data set has training and test.

    Raises: UnknownName, DatasetMissing, DatasetInvalid, as `load`.
    """
    if ref in catalog.datasets():
        return ("train", "test")
    path = _find_path(ref)
    if shards := _find_shard_reader(path):
        return tuple(find_shards(path, shards.SUFFIX))
    return npz_archive.list_parts(path) if is_archive_of_arrays(path) else image_folder.list_parts(path)


def _find_shard_reader(path: Path) -> ModuleType | None:
    """Return the module that reads the file or folder as shards; None where it is neither. Raises: DatasetInvalid."""
    try:
        if path.is_dir():
            suffixes = find_suffixes(path)
            readers = [reader for reader in _SHARD_READERS if reader.SUFFIX in suffixes]
            # A repository of Parquet files may also have pictures. A folder of pictures with a tar file is a folder of pictures.
            allowed = [reader for reader in readers if reader is parquet_shards or not suffixes & SUFFIXES]
            return next(iter(allowed), None)
        return next((reader for reader in _SHARD_READERS if reader.is_shard(path)), None)
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror or error}.") from None


def _find_path(ref: str) -> Path:
    """Return the existing file or folder of that name. Raises: DatasetMissing, UnknownName."""
    path = Path(ref)
    if path.exists():
        return path
    if path.suffix or len(path.parts) > 1:
        raise DatasetMissing(f"File or folder {ref!r} was not found, and no data set has that name. Check the path.")
    raise UnknownName.suggest("data set", ref, list(catalog.datasets()))


def _require_no_reading(name: str, reading: Reading | None) -> None:
    """Check that all reading options have their defaults. Raises: InvalidSpec."""
    if reading is not None and reading != Reading():
        raise InvalidSpec(
            f"{name} has no image files. Resizing, cropping and a class order apply only to folders and zip archives of images."
        )


def _require_no_class_order(name: str, reading: Reading | None) -> None:
    """Check that the order of classes has its default. Raises: InvalidSpec."""
    if reading is not None and reading.class_order is not None:
        raise InvalidSpec(f"{name} has labels as numbers. A class order applies only to class folders.")


def is_archive_of_arrays(path: Path) -> bool:
    """Return whether the path is an archive of NumPy arrays, not of images. Raises: DatasetInvalid where it is neither."""
    if path.is_dir():
        return False
    try:
        with open_archive(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnsafeArchive as error:
        message = f"{path.name} is refused: {error}. Pass a .npz archive or a .zip of class folders."
        raise DatasetInvalid(message) from None
