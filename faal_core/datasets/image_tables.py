"""Tables beside images: groups.csv and labels.csv have a row for each image, by its path from the table's folder.

A table class_groups.csv has a row for each class.

Columns are separated by commas, semicolons or tabs; the encoding is UTF-8.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from faal_core.datasets.class_groups import ClassGroups, parse_class_groups
from faal_core.datasets.folder_layout import CLASS_GROUPS, GROUPS, LABELS, Layout, normalise_path
from faal_core.datasets.grouping import Grouping
from faal_core.datasets.image_source import MAX_IMAGES
from faal_core.datasets.labelled_images import Part
from faal_core.datasets.tables import split_lines
from faal_core.errors import DatasetInvalid
from faal_core.specs.class_names import MAX_COLUMNS

IMAGE = ("image", "file", "filename", "path")
LABEL = ("label", "class")
_MAX_SHOWN = 200  # characters of a cell, at most, in a message

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class _Table:
    """A table's columns except the image paths, and its rows by image path from the data set's folder."""

    path: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]


def read_labels(layout: Layout, read: Read) -> dict[str, str] | None:
    """Return the label of each image of every part by its path; None where there is no labels.csv.

    Raises: DatasetInvalid where an image has no label or two, or a row has no image.
    """
    if not layout.tables[LABELS]:
        return None
    labels: dict[str, str] = {}
    tables: dict[str, _Table] = {}
    for part, images in layout.images.items():
        path = _find_table(layout, LABELS, part)
        if path is None:
            raise DatasetInvalid(
                f"There is no {LABELS} for the {part} part, but one for another part. Add the missing table."
            )
        if path not in tables:
            tables[path] = _read_label_table(path, read)
        table = tables[path]
        for image in images:
            labels[image] = _find_row(table, image)[table.columns[0]]
    known = {normalise_path(image) for image in labels}
    for path, table in tables.items():
        if missing := [name for name in table.rows if name not in known]:
            raise DatasetInvalid(
                f"{path} lists {missing[0][:_MAX_SHOWN]}, but there is no such image. Correct or remove the row."
            )
    return labels


def _read_label_table(path: str, read: Read) -> _Table:
    """Return the table of labels at `path`, which has one column beside the image paths. Raises: DatasetInvalid."""
    table = _read_table(path, read, IMAGE)
    if len(table.columns) != 1 or table.columns[0].casefold() not in LABEL:
        columns = ", ".join(table.columns)[:_MAX_SHOWN] or "image alone"
        raise DatasetInvalid(
            f"{path} has the columns {columns} beside the image; exactly one, `label`, is allowed. "
            f"Put other columns into {GROUPS}."
        )
    return table


def read_groups(layout: Layout, part: Part, read: Read) -> tuple[Grouping, ...]:
    """Return the columns of groups for that part's images; none where no table lists them.

    A table for several parts may leave out all images of a part, but not some of them. Raises: DatasetInvalid.
    """
    path = _find_table(layout, GROUPS, part)
    if path is None:
        return ()
    table, images = _read_table(path, read, IMAGE[:1]), layout.images[part]
    elsewhere = [normalise_path(image) for other, paths in layout.images.items() if other != part for image in paths]
    if not any(normalise_path(image) in table.rows for image in images) and any(
        name in table.rows for name in elsewhere
    ):
        return ()
    rows = [_find_row(table, image) for image in images]
    return tuple(Grouping.from_values(column, [row[column] for row in rows]) for column in table.columns)


def find_class_groups(layout: Layout, part: Part, read: Read) -> ClassGroups | None:
    """Return the groups of classes in the table class_groups.csv; None where there is none. Raises: DatasetInvalid."""
    path = _find_table(layout, CLASS_GROUPS, part)
    return None if path is None else parse_class_groups(path, read(path))


def _find_table(layout: Layout, name: str, part: Part) -> str | None:
    """Return the path of the one table of that name for the part: in the part's folder, or beside or above all parts.

    Raises: DatasetInvalid where there are two, or one is among the images.
    """
    beside = {"", layout.top}
    places = {*beside, *layout.folders.values()}
    for path in layout.tables[name]:
        if _parent_folder(path) not in places:
            raise DatasetInvalid(f"{path} is in a folder of images; put it beside the class folders or the parts.")
    paths = [path for path in layout.tables[name] if _parent_folder(path) in {*beside, layout.folders[part]}]
    if len(paths) > 1:
        raise DatasetInvalid(f"There are two tables for the {part} part, {paths[0]} and {paths[1]}; join them.")
    return paths[0] if paths else None


def _parent_folder(path: str) -> str:
    """Return the folder of that path; empty for the data set's own."""
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _find_row(table: _Table, image: str) -> Mapping[str, str]:
    """Return the row of that image. Raises: DatasetInvalid."""
    row = table.rows.get(normalise_path(image))
    if row is None:
        raise DatasetInvalid(f"{table.path} has no row for {image}. Add one with the path from the table's folder.")
    return row


def _read_table(path: str, read: Read, image_names: Sequence[str]) -> _Table:
    """Return the table at `path`, whose column of images has one of `image_names`. Raises: DatasetInvalid."""
    content = read(path)
    rows: dict[str, Mapping[str, str]] = {}
    try:
        lines = split_lines(content.decode("utf-8-sig"), image_names)
        header = [cell.strip() for cell in next(lines, [])]
        column = _find_image_column(path, header, image_names)
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise DatasetInvalid(f"{path}: row {number} has {len(line)} cells; the first has {len(header)}.")
            if len(rows) == MAX_IMAGES:
                raise DatasetInvalid(f"{path} has more than {MAX_IMAGES:,} rows, which is the limit for images.")
            row = dict(zip(header, (cell.strip() for cell in line), strict=True))
            name = normalise_path(str(PurePosixPath(path).parent / row.pop(column).replace("\\", "/")))
            if name in rows:
                raise DatasetInvalid(f"{path} lists {name[:_MAX_SHOWN]} twice. Remove one row.")
            rows[name] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{path} cannot be read as a table: {str(error)[:_MAX_SHOWN]}") from None
    return _Table(path, tuple(name for name in header if name != column), rows)


def _find_image_column(path: str, header: Sequence[str], image_names: Sequence[str]) -> str:
    """Return the name of the column of images.

    Raises: DatasetInvalid where there is none, two columns have one name, or there are too many columns.
    """
    if len(header) > MAX_COLUMNS + 1:
        raise DatasetInvalid(
            f"{path} has {len(header):,} columns; at most {MAX_COLUMNS} are read beside the images' paths."
        )
    duplicates = sorted(name for name, count in Counter(header).items() if count > 1)
    if duplicates:
        raise DatasetInvalid(f"{path} has two columns called {duplicates[0][:_MAX_SHOWN]!r}; rename or remove one.")
    column = next((name for name in header if name.casefold() in image_names), None)
    if column is None:
        raise DatasetInvalid(
            f"{path} has no column `image` for the images' paths; its first line is {', '.join(header)[:_MAX_SHOWN]!r}."
        )
    return column
