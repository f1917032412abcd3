"""Data sets by name or path: `load` gives one part as two tensors.

Archives are hostile until shown otherwise: they are told apart by their content, read in memory and never extracted.
"""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from faal_core import catalog
from faal_core.archives import UnsafeArchive, open_archive
from faal_core.datasets import image_folder, npz_archive
from faal_core.datasets.class_order import NameOrder, aligned
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_folder import Reading
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import DatasetInvalid, DatasetMissing, InvalidSpec, UnknownName

__all__ = [
    "LabelledImages",
    "NameOrder",
    "Part",
    "Reading",
    "Resizing",
    "aligned",
    "is_archive_of_arrays",
    "load",
    "parts",
]


def load(
    ref: str, part: Part, *, root: Path | None = None, download: bool = False, reading: Reading | None = None
) -> LabelledImages:
    """Return one part of the data set `ref`: a catalog name, or a path to a .npz, a .zip of images or a folder of them.

    Named sets but the bundled one are read from `root`; with `download`, missing files are fetched into it.

    Args:
        reading: how image files are read. Arrays and named sets have no files to resize and no folders to order.
    Raises: UnknownName where `ref` is neither name nor path; DatasetMissing; DatasetInvalid; InvalidSpec for a reading that the
        data set has no use for.
    """
    known = catalog.datasets()
    if ref in known:
        _require_no_reading(ref, reading)
        entry = known[ref]
        named: LabelledImages = resolve_name(entry.builder)(part, root=root, download=download)
        return replace(named, augmentation=entry.augmentation) if entry.augmentation else named
    path = _path(ref)
    if is_archive_of_arrays(path):
        _require_no_reading(path.name, reading)
        return npz_archive.load(path, part)
    return image_folder.load(path, part, reading or Reading())


def parts(ref: str) -> tuple[Part, ...]:
    """Return which parts the data set `ref` has, without decoding an image: of a named set, training and test.

    Raises: UnknownName, DatasetMissing, DatasetInvalid, as `load`.
    """
    if ref in catalog.datasets():
        return ("train", "test")
    path = _path(ref)
    return npz_archive.parts(path) if is_archive_of_arrays(path) else image_folder.parts(path)


def _path(ref: str) -> Path:
    """The existing file or folder of that name. Raises: DatasetMissing, UnknownName."""
    path = Path(ref)
    if path.exists():
        return path
    if path.suffix or len(path.parts) > 1:
        raise DatasetMissing(f"There is no file or folder {ref}, and no data set of that name.")
    raise UnknownName.among("data set", ref, list(catalog.datasets()))


def _require_no_reading(name: str, reading: Reading | None) -> None:
    """Check that nothing is asked of the reading of image files. Raises: InvalidSpec."""
    if reading is not None and reading != Reading():
        raise InvalidSpec(
            f"{name} has no image files: resizing, cropping and an order of classes are for folders and zip archives of images."
        )


def is_archive_of_arrays(path: Path) -> bool:
    """Return whether the path is an archive of NumPy's rather than images. Raises: DatasetInvalid where it is neither."""
    if path.is_dir():
        return False
    try:
        with open_archive(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnsafeArchive as error:
        message = f"{path.name} is refused: {error}; .npz archives and .zip files of class folders are read."
        raise DatasetInvalid(message) from None
