"""Data sets by name or path: `load` gives one part as two tensors.

Archives are hostile until shown otherwise: they are told apart by their content, read in memory and never extracted.
"""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from faal_core import catalog
from faal_core.archives import UnsafeArchive, open_archive
from faal_core.datasets import image_folder, npz_archive
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import DatasetInvalid, DatasetMissing, UnknownName

__all__ = ["LabelledImages", "Part", "load"]


def load(ref: str, part: Part, *, root: Path | None = None, download: bool = False) -> LabelledImages:
    """One part of the data set `ref`: a catalog name, or a path to a .npz, a .zip of class folders or such a folder.

    Named sets but the bundled one are read from `root`; with `download`, missing files are fetched into it.
    Raises: UnknownName where `ref` is neither name nor path; DatasetMissing; DatasetInvalid.
    """
    known = catalog.datasets()
    if ref in known:
        entry = known[ref]
        named: LabelledImages = resolve_name(entry.builder)(part, root=root, download=download)
        return replace(named, augmentation=entry.augmentation) if entry.augmentation else named
    path = Path(ref)
    if path.is_dir():
        return image_folder.load_folder(path, part)
    if path.is_file():
        return npz_archive.load(path, part) if _holds_arrays(path) else image_folder.load_zip(path, part)
    if path.suffix or len(path.parts) > 1:
        raise DatasetMissing(f"There is no file or folder {ref}, and no data set of that name.")
    raise UnknownName.among("data set", ref, list(known))


def _holds_arrays(path: Path) -> bool:
    """Whether the archive is NumPy's, by its members. Raises: DatasetInvalid where it is no archive at all."""
    try:
        with open_archive(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except UnsafeArchive as error:
        message = f"{path.name} is refused: {error}; .npz archives and .zip files of class folders are read."
        raise DatasetInvalid(message) from None
