"""The layout of an image data set: folders decide the part and the class of each file.

The folders of parts are train, val and test (or training, valid, validation, testing; case is ignored), with class folders in
them. Class folders alone are a test part. One more folder may surround all of it, or all images beside the tables.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from faal_core.datasets.image_source import MAX_IMAGES
from faal_core.datasets.labelled_images import Part
from faal_core.errors import DatasetInvalid

GROUPS, LABELS, CLASS_GROUPS = "groups.csv", "labels.csv", "class_groups.csv"
PART_FOLDERS: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"}
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}  # files of file managers
_ARCHIVES = {".zip", ".npz", ".tar", ".gz", ".tgz", ".7z", ".rar"}


@dataclass(frozen=True)
class Layout:
    """The files of a data set by their meaning.

    Args:
        images: the sorted paths of each part's images.
        folders: the folder of each part; without parts, the folder around the classes.
        classes: the names of all class folders, empty ones included; an empty set where labels.csv names the classes.
        tables: the paths of groups.csv, labels.csv and class_groups.csv, by file name.
        top: the folder around everything; empty where there is none.
    """

    images: Mapping[Part, list[str]]
    folders: Mapping[Part, str]
    classes: frozenset[str]
    tables: Mapping[str, list[str]]
    top: str


def derive_layout(names: Iterable[str], empty: Iterable[str] = ()) -> Layout:
    """Return the layout of files with those names, and of folders that may be empty.

    Raises: DatasetInvalid for a file that does not belong there; the message names it.
    """
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if not any(_is_ignored(step) for step in path.parts)]
    tables: dict[str, list[str]] = {GROUPS: [], LABELS: [], CLASS_GROUPS: []}
    images = []
    for path in paths:
        tables[path.name].append(str(path)) if path.name in tables else images.append(path)
    has_labels = bool(tables[LABELS])
    _require_images(images, has_labels=has_labels)
    depth_above = int(_is_wrapped(images, has_labels=has_labels))
    has_parts = _has_part_folders(images, depth_above, has_labels=has_labels)
    if has_labels and not has_parts:
        _require_no_parts_in_words([path.parts[depth_above] for path in images if len(path.parts) > depth_above + 1])
    depth = depth_above + (3 if has_parts else 2)
    by_part: dict[Part, list[str]] = {}
    folders: dict[Part, str] = {}
    top = images[0].parts[0] if depth_above else ""
    for path in sorted(images):
        if not has_labels and len(path.parts) != depth:
            raise DatasetInvalid(_describe_misplaced(path, images, depth_above))
        part = PART_FOLDERS[path.parts[depth_above].casefold()] if has_parts else "test"
        if has_labels:
            _require_part(path, path.parts[depth_above:-1], part, has_parts=has_parts)
        folder = str(PurePosixPath(*path.parts[: depth_above + has_parts])) if depth_above + has_parts else ""
        if folders.setdefault(part, folder) != folder:
            raise DatasetInvalid(f"{folders[part]} and {folder} are both folders of the {part} part; join them.")
        by_part.setdefault(part, []).append(str(path))
    classes = {path.parent.name for path in images} | _class_folders(map(PurePosixPath, empty), set(folders.values()))
    return Layout(by_part, folders, frozenset() if has_labels else frozenset(classes), tables, top)


def _class_folders(paths: Iterable[PurePosixPath], parents: set[str]) -> set[str]:
    """Return the names of the folders that are directly below one of `parents`."""
    visible = (path for path in paths if not any(_is_ignored(step) for step in path.parts))
    return {path.name for path in visible if str(path.parent) in {folder or "." for folder in parents}}


def _is_ignored(step: str) -> bool:
    """Return whether a file or folder is hidden, or was left by a file manager."""
    return step.startswith(".") or step.casefold() in _IGNORED


def _has_part_folder(names: Iterable[str]) -> bool:
    """Return whether one of the names is the name of a part."""
    return any(name.casefold() in PART_FOLDERS for name in names)


def _is_wrapped(images: Sequence[PurePosixPath], *, has_labels: bool) -> bool:
    """Return whether one folder, which is not the folder of a part, surrounds all images."""
    tops, depth = {path.parts[0] for path in images}, min(len(path.parts) for path in images)
    if len(tops) > 1:
        return False
    within = 2 if has_labels else 3  # parts of a path from the folder of a part
    if _has_part_folder(tops):  # a folder "test" around train/ and test/
        return depth > within and all(path.parts[1].casefold() in PART_FOLDERS for path in images)
    return depth > within - 1


def _has_part_folders(images: Sequence[PurePosixPath], depth_above: int, *, has_labels: bool) -> bool:
    """Return whether the folders at depth `depth_above` are parts. A class may have a part's name, at the depth of classes."""
    depth = depth_above + (2 if has_labels else 3)
    if any(len(path.parts) < depth for path in images):
        return False
    return all(path.parts[depth_above].casefold() in PART_FOLDERS for path in images)


def _require_part(path: PurePosixPath, folders: Sequence[str], part: Part, *, has_parts: bool) -> None:
    """Check that no folder around an image of labels.csv has the name of another part. Raises: DatasetInvalid."""
    for folder in folders:
        if PART_FOLDERS.get(folder.casefold(), part) != part:
            parent = f"the {part} part" if has_parts else "a data set without parts"
            raise DatasetInvalid(
                f"{path} is in a folder {folder} of {parent}. Put the folders of the parts beside one another, with at most one "
                f"folder around them. If {folder} is not a part, rename it; {LABELS} names the classes."
            )


def _require_no_parts_in_words(folders: Iterable[str]) -> None:
    """Check that folders of labelled images have no names such as train_images and test_images. Raises: DatasetInvalid."""
    by_part: dict[Part, str] = {}
    for folder in dict.fromkeys(folders):
        words = re.split(r"[\W\d_]+", folder.casefold())
        by_part |= {PART_FOLDERS[word]: folder for word in words if word in PART_FOLDERS}
    if len(set(by_part.values())) > 1:
        first, second = sorted(set(by_part.values()))[:2]
        raise DatasetInvalid(
            f"The folders {first} and {second} look like parts, but would be read as one test part. Name the folders of parts "
            "train, val and test, and rename other folders."
        )


def _require_images(paths: Sequence[PurePosixPath], *, has_labels: bool) -> None:
    """Check that all files are images, and their number. Raises: DatasetInvalid."""
    for path in paths:
        if path.suffix.lower() in _ARCHIVES:
            raise DatasetInvalid(
                f"{path} is an archive, not an image; pass the archive itself as the data set, or unpack it."
            )
        if path.suffix.lower() not in SUFFIXES:
            raise DatasetInvalid(
                f"{path} is not a supported image ({', '.join(sorted(SUFFIXES))}). Convert or remove it."
            )
    if not paths or len(paths) > MAX_IMAGES:
        raise DatasetInvalid(f"The data set has {len(paths):,} images; 1 to {MAX_IMAGES:,} are supported.")
    if not has_labels and all(len(path.parts) == 1 for path in paths):
        raise DatasetInvalid(
            f"{paths[0]} and all other images are directly in the folder. Put each into a folder named after its class, or add "
            f"a file {LABELS} with the columns image and label."
        )


def _describe_misplaced(path: PurePosixPath, images: Sequence[PurePosixPath], depth_above: int) -> str:
    """Return the error message for an image at the wrong depth, or for another that has a part but no class."""
    if all(image.parts[depth_above].casefold() in PART_FOLDERS for image in images):
        for image in images:
            if len(image.parts) == depth_above + 2:
                return f"{image} is in a part but in no class folder. Put it into one, or add a file {LABELS}."
    expected = "<class>/<image> or train|val|test/<class>/<image>"
    return f"{path} is at the wrong depth. Expected: {'/'.join([*path.parts[:depth_above], expected])}."


def normalise_path(name: str) -> str:
    """Return the form in which paths of tables and files are compared: NFC, forward slashes, no leading `./`."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name.strip().replace("\\", "/"))))
