"""Class folders of images, on disk or in a .zip.

The layout is train/<class>/<image> and test/<class>/<image>, or <class>/<image>, which is a test part; one folder
around all of it is allowed. Classes are the folders' names in alphabetical order. All images have one size and one
mode, grey or RGB. A file groups.csv beside the folders may say which group each image belongs to: one column `image` with paths
from there, and one column of groups after another. Hidden files are ignored; anything else that is no image is an error, so
that nothing is lost unseen.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from faal_core.archives import MAX_BYTES, UnsafeArchive, open_archive, safe_members
from faal_core.datasets.grouping import Grouping, require_few
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import DatasetInvalid
from faal_core.specs import MAX_CLASSES

MAX_IMAGES = 500_000
MAX_FILE_BYTES = 32 * 2**20
MAX_PIXELS = 2**22
GROUPS = "groups.csv"
FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "WEBP": (".webp",), "PPM": (".ppm", ".pgm")}
MODES = ("L", "RGB")

_SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
Read = Callable[[str], bytes]


def load_folder(folder: Path, part: Part) -> LabelledImages:
    """One part of the folder. Raises: DatasetInvalid where it, or an image in it, breaks a rule."""
    names = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise DatasetInvalid(f"{path} is a link; copy the file it points to.")
        if path.is_file():
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DatasetInvalid(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
            names.append(path.relative_to(folder).as_posix())
    return _load(folder.resolve().name, names, lambda name: (folder / name).read_bytes(), part)


def load_zip(path: Path, part: Part) -> LabelledImages:
    """One part of the archive, decoded in memory. Raises: DatasetInvalid where it, or an image in it, breaks a rule."""
    try:
        with open_archive(path) as archive:
            members = safe_members(archive, most=2 * MAX_IMAGES)
            for member in members:
                if member.file_size > MAX_FILE_BYTES:
                    raise UnsafeArchive(f"{member.filename!r} unpacks to {member.file_size:,} bytes")
            return _load(path.stem, [member.filename for member in members], archive.read, part)
    except (UnsafeArchive, BadZipFile) as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None


def _load(title: str, names: Sequence[str], read: Read, part: Part) -> LabelledImages:
    """The part whose images are those `names`, but for tables of groups: paths below the folder, read by `read`."""
    tables = [name for name in names if PurePosixPath(name).name == GROUPS]
    by_part = _sorted_into_parts(name for name in names if PurePosixPath(name).name != GROUPS)
    if part not in by_part:
        raise DatasetInvalid(
            f"{title} has no {part} part. Put its class folders below a folder named {part}; class folders alone are a "
            "test part."
        )
    class_names = sorted({PurePosixPath(name).parent.name for name in by_part[part]})
    for other, theirs in by_part.items():
        differing = {PurePosixPath(name).parent.name for name in theirs} ^ set(class_names)
        if differing:
            raise DatasetInvalid(
                f"{title}: {part} and {other} differ in their classes: {', '.join(sorted(differing)[:5])}."
            )
    if not 2 <= len(class_names) <= MAX_CLASSES:
        raise DatasetInvalid(f"{title} has {len(class_names)} class folders; 2 to {MAX_CLASSES} are read.")
    chosen = sorted(by_part[part])
    labels = [class_names.index(PurePosixPath(name).parent.name) for name in chosen]
    return LabelledImages(
        images=torch.from_numpy(_decode_all(chosen, read)),
        labels=torch.tensor(labels),
        class_names=tuple(class_names),
        name=title,
        part=part,
        groups=_groups(tables, chosen, read),
    )


def _groups(tables: Sequence[str], images: Sequence[str], read: Read) -> tuple[Grouping, ...]:
    """The columns of the one table, if there is one, for those images. Raises: DatasetInvalid."""
    if not tables:
        return ()
    table, *others = tables
    if others:
        raise DatasetInvalid(f"There are two tables of groups, {table} and {others[0]}.")
    try:
        rows = list(csv.DictReader(io.StringIO(read(table).decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{table} cannot be read as a table: {str(error)[:200]}") from None
    columns = [column for column in (rows[0] if rows else ()) if column != "image"]
    require_few(columns)
    found = {str(PurePosixPath(table).parent / str(row.get("image"))): row for row in rows}
    fault = None
    if any(None in row or None in row.values() for row in rows):
        fault = "a row is longer or shorter than the first"
    elif missing := [name for name in images if name not in found]:
        fault = f"{missing[0]} is not in it"
    elif len(found) < len(rows):
        fault = "an image is in it twice"
    if fault is not None:
        raise DatasetInvalid(f"{table} has a column `image` and a row for each image: {fault}.")
    return tuple(Grouping.of(column, [found[name][column] for name in images]) for column in columns)


def _sorted_into_parts(names: Iterable[str]) -> Mapping[str, list[str]]:
    """The names of images by part: by the folder "train" or "test" around their class folders, "test" without one."""
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if not any(step.startswith(".") or step == "__MACOSX" for step in path.parts)]
    if not paths or len(paths) > MAX_IMAGES:
        raise DatasetInvalid(f"There are {len(paths):,} images; 1 to {MAX_IMAGES:,} are read.")
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES:
            raise DatasetInvalid(f"{path} is no image that is read here ({', '.join(sorted(_SUFFIXES))}).")
    tops = {path.parts[0] for path in paths}
    around = 1 if len(tops) == 1 and not tops & {"train", "test"} and all(len(path.parts) > 2 for path in paths) else 0
    divided = {path.parts[around] for path in paths} <= {"train", "test"}
    by_part: dict[str, list[str]] = {}
    for path in paths:
        if len(path.parts) != around + (3 if divided else 2):
            raise DatasetInvalid(f"{path} lies at another depth than <class>/<image> or train|test/<class>/<image>.")
        by_part.setdefault(path.parts[around] if divided else "test", []).append(str(path))
    return by_part


def _decode_all(names: list[str], read: Read) -> np.ndarray:
    """The images in order, n × c × h × w, uint8. Raises: DatasetInvalid naming the first unlike the first image."""
    first = _decode(names[0], read)
    if first.nbytes * len(names) > MAX_BYTES:
        raise DatasetInvalid(f"{len(names):,} images of {first.nbytes:,} bytes exceed {MAX_BYTES:,} bytes in memory.")
    images = np.empty((len(names), *first.shape), np.uint8)
    for row, name in enumerate(names):
        image = _decode(name, read)
        if image.shape != first.shape:
            raise DatasetInvalid(
                f"{name} is {_described(image)}, {names[0]} is {_described(first)}; all must be alike."
            )
        images[row] = image
    return images


def _decode(name: str, read: Read) -> np.ndarray:
    """The levels of one image, c × h × w. Its size is checked before its pixels are unpacked."""
    try:
        with Image.open(io.BytesIO(read(name)), formats=list(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetInvalid(
                    f"{name} has {image.width} × {image.height} pixels; at most {MAX_PIXELS:,} are read."
                )
            if image.mode not in MODES:
                raise DatasetInvalid(
                    f"{name} has mode {image.mode}; convert it to grey (L) or RGB without transparency."
                )
            levels = np.asarray(image)
    except DatasetInvalid:
        raise
    except UnidentifiedImageError:
        raise DatasetInvalid(f"{name} cannot be decoded: by its content it is none of {', '.join(FORMATS)}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged image can raise anything in a decoder
        raise DatasetInvalid(f"{name} cannot be decoded: {str(error)[:200]}") from None
    return levels[np.newaxis] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def _described(image: np.ndarray) -> str:
    """The image's size and kind in words."""
    channels, height, width = image.shape
    return f"{width} × {height} {'grey' if channels == 1 else 'RGB'}"
