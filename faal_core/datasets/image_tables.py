"""Tables beside images: groups.csv and labels.csv, one row an image, by its path from the table's folder.

Columns are separated by commas, semicolons or tabs; the encoding is UTF-8.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from faal_core.datasets.folder_layout import GROUPS, LABELS, Layout, same_path
from faal_core.datasets.grouping import MAX_COLUMNS, Grouping
from faal_core.datasets.image_source import MAX_IMAGES
from faal_core.datasets.labelled_images import Part
from faal_core.errors import DatasetInvalid

IMAGE = ("image", "file", "filename", "path")
LABEL = ("label", "class")
_DELIMITERS = ",;\t"
_SHOWN = 200  # characters of a cell, at most, in a message

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class _Table:
    """A table's columns beside the images' paths, and its rows by the images' paths below the data set."""

    path: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]


def read_labels(layout: Layout, read: Read) -> dict[str, str] | None:
    """Return the label of each image of every part by its path; None where there is no labels.csv.

    Raises: DatasetInvalid where an image has none or two, or a row has no image.
    """
    if not layout.tables[LABELS]:
        return None
    labels: dict[str, str] = {}
    tables: dict[str, _Table] = {}
    for part, images in layout.images.items():
        path = _table_of(layout, LABELS, part)
        if path is None:
            raise DatasetInvalid(f"There is no {LABELS} for the {part} part, and there is one for another part.")
        if path not in tables:
            tables[path] = _label_table(path, read)
        table = tables[path]
        for image in images:
            labels[image] = _row(table, image)[table.columns[0]]
    known = {same_path(image) for image in labels}
    for path, table in tables.items():
        if missing := [name for name in table.rows if name not in known]:
            raise DatasetInvalid(f"{path} names {missing[0][:_SHOWN]}, and there is no such image.")
    return labels


def _label_table(path: str, read: Read) -> _Table:
    """The table of labels at `path`, which has one column beside the images' paths. Raises: DatasetInvalid."""
    table = _read_table(path, read, IMAGE)
    if len(table.columns) != 1 or table.columns[0].casefold() not in LABEL:
        columns = ", ".join(table.columns)[:_SHOWN] or "image alone"
        raise DatasetInvalid(
            f"{path} has the columns {columns} beside the image; it needs one, `label`. "
            f"Put other columns into {GROUPS}."
        )
    return table


def read_groups(layout: Layout, part: Part, read: Read) -> tuple[Grouping, ...]:
    """Return the columns of groups of that part's images; none where no table names them.

    A table of several parts may leave out all images of a part, but not some of them. Raises: DatasetInvalid.
    """
    path = _table_of(layout, GROUPS, part)
    if path is None:
        return ()
    table, images = _read_table(path, read, IMAGE[:1]), layout.images[part]
    elsewhere = [same_path(image) for other, paths in layout.images.items() if other != part for image in paths]
    if not any(same_path(image) in table.rows for image in images) and any(name in table.rows for name in elsewhere):
        return ()
    rows = [_row(table, image) for image in images]
    return tuple(Grouping.of(column, [row[column] for row in rows]) for column in table.columns)


def _table_of(layout: Layout, name: str, part: Part) -> str | None:
    """The path of the one table of that name that speaks of the part: in its folder, or beside or above all parts."""
    beside = {"", layout.top}
    places = {*beside, *layout.folders.values()}
    for path in layout.tables[name]:
        if _folder(path) not in places:
            raise DatasetInvalid(f"{path} lies in a folder of images; put it beside the class folders or the parts.")
    found = [path for path in layout.tables[name] if _folder(path) in {*beside, layout.folders[part]}]
    if len(found) > 1:
        raise DatasetInvalid(f"There are two tables for the {part} part, {found[0]} and {found[1]}; join them.")
    return found[0] if found else None


def _folder(path: str) -> str:
    """The folder of that path; empty for the data set's own."""
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _row(table: _Table, image: str) -> Mapping[str, str]:
    """The row of that image. Raises: DatasetInvalid."""
    row = table.rows.get(same_path(image))
    if row is None:
        raise DatasetInvalid(f"{table.path} has a row for each image by its path from there: {image} is not in it.")
    return row


def _read_table(path: str, read: Read, image_names: Sequence[str]) -> _Table:
    """The table at `path`, whose column of images has one of those names. Raises: DatasetInvalid."""
    content = read(path)
    rows: dict[str, Mapping[str, str]] = {}
    try:
        lines = _lines(content.decode("utf-8-sig"), image_names)
        header = [cell.strip() for cell in next(lines, [])]
        column = _column_of_images(path, header, image_names)
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise DatasetInvalid(f"{path}: row {number} is longer or shorter than the first.")
            if len(rows) == MAX_IMAGES:
                raise DatasetInvalid(f"{path} has more than {MAX_IMAGES:,} rows; a data set has no more images.")
            row = dict(zip(header, (cell.strip() for cell in line), strict=True))
            name = same_path(str(PurePosixPath(path).parent / row.pop(column).replace("\\", "/")))
            if name in rows:
                raise DatasetInvalid(f"{path} names {name[:_SHOWN]} twice.")
            rows[name] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{path} cannot be read as a table: {str(error)[:_SHOWN]}") from None
    return _Table(path, tuple(name for name in header if name != column), rows)


def _column_of_images(path: str, header: Sequence[str], image_names: Sequence[str]) -> str:
    """The name of the column of images. Raises: DatasetInvalid where there is none, a column twice, or too many of them."""
    if len(header) > MAX_COLUMNS + 1:
        raise DatasetInvalid(
            f"{path} has {len(header):,} columns; at most {MAX_COLUMNS} are read beside the images' paths."
        )
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise DatasetInvalid(f"{path} has two columns called {twice[0][:_SHOWN]!r}; rename or remove one.")
    column = next((name for name in header if name.casefold() in image_names), None)
    if column is None:
        raise DatasetInvalid(
            f"{path} has no column `image` for the images' paths; its first line is {', '.join(header)[:_SHOWN]!r}."
        )
    return column


def _lines(text: str, image_names: Sequence[str]) -> Iterator[list[str]]:
    """The table's rows of cells, no blank ones, by the first delimiter with which its first line names the column of images."""
    first = text.partition("\n")[0]
    delimiter = next((sign for sign in _DELIMITERS if _names_images(first.split(sign), image_names)), ",")
    return (line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line)


def _names_images(cells: Sequence[str], image_names: Sequence[str]) -> bool:
    """Whether one of the cells is the name of the column of images."""
    return any(cell.strip().strip('"').casefold() in image_names for cell in cells)
