"""The layout of an image data set: which file belongs to which part and class, by the folders it lies in.

Parts are the folders train, val and test (or training, valid, validation, testing, in any case of letters) around class folders;
class folders without them are a test part. One folder around all of it, or around all images beside the tables, is allowed.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from faal_core.datasets.image_source import MAX_IMAGES
from faal_core.datasets.labelled_images import Part
from faal_core.errors import DatasetInvalid

GROUPS, LABELS = "groups.csv", "labels.csv"
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
_LEFT_BEHIND = {"__macosx", "thumbs.db", "desktop.ini"}  # by file managers
_ARCHIVES = {".zip", ".npz", ".tar", ".gz", ".tgz", ".7z", ".rar"}


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Args:
        images: the paths of each part's images, in order.
        folders: the folder of each part; one that is undivided has the folder around its classes.
        classes: the names of all class folders, those without images included; empty where labels.csv names the classes.
        tables: the paths of groups.csv and labels.csv, by that name.
        top: the folder around it all; empty where there is none.
    """

    images: Mapping[Part, list[str]]
    folders: Mapping[Part, str]
    classes: frozenset[str]
    tables: Mapping[str, list[str]]
    top: str


def layout(names: Iterable[str], empty: Iterable[str] = ()) -> Layout:
    """Return the layout of the files of those names, and of folders that may be empty.

    Raises: DatasetInvalid naming a file that has no place in it.
    """
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if not any(_is_left_behind(step) for step in path.parts)]
    tables: dict[str, list[str]] = {GROUPS: [], LABELS: []}
    images = []
    for path in paths:
        tables[path.name].append(str(path)) if path.name in tables else images.append(path)
    labelled = bool(tables[LABELS])
    _require_images(images, labelled=labelled)
    around = int(_is_wrapped(images, labelled=labelled))
    divided = _is_divided(images, around, labelled=labelled)
    if labelled and not divided:
        _require_no_parts_in_words([path.parts[around] for path in images if len(path.parts) > around + 1])
    depth = around + (3 if divided else 2)
    by_part: dict[Part, list[str]] = {}
    folders: dict[Part, str] = {}
    top = images[0].parts[0] if around else ""
    for path in sorted(images):
        if not labelled and len(path.parts) != depth:
            raise DatasetInvalid(_misplaced(path, images, around))
        part = PART_FOLDERS[path.parts[around].casefold()] if divided else "test"
        if labelled:
            _require_part(path, path.parts[around:-1], part, divided=divided)
        folder = str(PurePosixPath(*path.parts[: around + divided])) if around + divided else ""
        if folders.setdefault(part, folder) != folder:
            raise DatasetInvalid(f"{folders[part]} and {folder} are both folders of the {part} part; join them.")
        by_part.setdefault(part, []).append(str(path))
    classes = {path.parent.name for path in images} | _class_folders(map(PurePosixPath, empty), set(folders.values()))
    return Layout(by_part, folders, frozenset() if labelled else frozenset(classes), tables, top)


def _class_folders(paths: Iterable[PurePosixPath], around: set[str]) -> set[str]:
    """The names of those folders that lie directly in one of the folders around classes."""
    visible = (path for path in paths if not any(_is_left_behind(step) for step in path.parts))
    return {path.name for path in visible if str(path.parent) in {folder or "." for folder in around}}


def _is_left_behind(step: str) -> bool:
    """Whether the name is hidden, or what a file manager leaves behind."""
    return step.startswith(".") or step.casefold() in _LEFT_BEHIND


def _parts(names: Iterable[str]) -> bool:
    """Whether one of the names is a part's."""
    return any(name.casefold() in PART_FOLDERS for name in names)


def _is_wrapped(images: Sequence[PurePosixPath], *, labelled: bool) -> bool:
    """Whether there is one folder around all images, which is not a part's own."""
    tops, depth = {path.parts[0] for path in images}, min(len(path.parts) for path in images)
    if len(tops) > 1:
        return False
    within = 2 if labelled else 3  # parts of a path from the folder of a part
    if _parts(tops):  # one named "test" around train/ and test/
        return depth > within and all(path.parts[1].casefold() in PART_FOLDERS for path in images)
    return depth > within - 1


def _is_divided(images: Sequence[PurePosixPath], around: int, *, labelled: bool) -> bool:
    """Whether the folders below `around` are parts; a class may be called after one, but not lie where one would."""
    depth = around + (2 if labelled else 3)
    if any(len(path.parts) < depth for path in images):
        return False
    return all(path.parts[around].casefold() in PART_FOLDERS for path in images)


def _require_part(path: PurePosixPath, folders: Sequence[str], part: Part, *, divided: bool) -> None:
    """Check that none of the folders around an image of labels.csv is called after another part. Raises: DatasetInvalid."""
    for folder in folders:
        if PART_FOLDERS.get(folder.casefold(), part) != part:
            where = f"the {part} part" if divided else "a data set without parts"
            raise DatasetInvalid(
                f"{path} lies in a folder {folder} of {where}. Put the folders of the parts beside one another, with at most one "
                f"folder around them. If {folder} is no part, rename it; the classes are those of {LABELS}."
            )


def _require_no_parts_in_words(folders: Iterable[str]) -> None:
    """Check that folders of labelled images are not called train_images and test_images. Raises: DatasetInvalid."""
    by_part: dict[Part, str] = {}
    for folder in dict.fromkeys(folders):
        words = re.split(r"[\W\d_]+", folder.casefold())
        by_part |= {PART_FOLDERS[word]: folder for word in words if word in PART_FOLDERS}
    if len(set(by_part.values())) > 1:
        one, other = sorted(set(by_part.values()))[:2]
        raise DatasetInvalid(
            f"The folders {one} and {other} look like parts, and would be read as one test part. Call the folders of parts "
            "train, val and test; rename folders that are none."
        )


def _require_images(paths: Sequence[PurePosixPath], *, labelled: bool) -> None:
    """Check that there are images and nothing else. Raises: DatasetInvalid."""
    for path in paths:
        if path.suffix.lower() in _ARCHIVES:
            raise DatasetInvalid(
                f"{path} is no image but an archive; pass the archive itself as the data set, or unpack it."
            )
        if path.suffix.lower() not in SUFFIXES:
            raise DatasetInvalid(f"{path} is no image that is read here ({', '.join(sorted(SUFFIXES))}).")
    if not paths or len(paths) > MAX_IMAGES:
        raise DatasetInvalid(f"There are {len(paths):,} images; 1 to {MAX_IMAGES:,} are read.")
    if not labelled and all(len(path.parts) == 1 for path in paths):
        raise DatasetInvalid(
            f"{paths[0]} and all other images lie directly in the folder. Put each into a folder named after its class, or add "
            f"a file {LABELS} with the columns image and label."
        )


def _misplaced(path: PurePosixPath, images: Sequence[PurePosixPath], around: int) -> str:
    """What is wrong with the place of that image, or of another that lies in a part without a class."""
    if all(image.parts[around].casefold() in PART_FOLDERS for image in images):
        for image in images:
            if len(image.parts) == around + 2:
                return f"{image} lies in a part without a class folder. Put it into one, or add a file {LABELS}."
    expected = "<class>/<image> or train|val|test/<class>/<image>"
    return f"{path} lies at another depth than {'/'.join([*path.parts[:around], expected])}."


def same_path(name: str) -> str:
    """Return the form in which paths in tables and of files are compared: NFC, forward slashes, no leading `./`."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name.strip().replace("\\", "/"))))
