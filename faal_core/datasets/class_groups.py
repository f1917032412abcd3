"""Groups of classes: a table assigns every class to a group, such as each of a thousand species to its family."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from faal_core.datasets.class_order import quote_names
from faal_core.datasets.grouping import Grouping, require_few_columns
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.tables import split_lines
from faal_core.errors import DatasetInvalid
from faal_core.specs import MAX_CLASSES
from faal_core.specs.class_names import normalise_name

CLASS = ("class", "label")
_MAX_BYTES = 2**22  # of a file: a thousand classes take some 50 KiB
_SHOWN = 200  # characters of a value, at most, in a message


@dataclass(frozen=True)
class ClassGroups:
    """The groups of classes.

    Args:
        source: the table's name, for messages.
        columns: for each column, the group of each class by the class's name.
    """

    source: str
    columns: Mapping[str, Mapping[str, str]]


def read_class_groups(path: Path) -> ClassGroups:
    """Return the groups in a CSV or JSON file. Raises: DatasetInvalid."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_class_groups(str(path), content)


def parse_class_groups(source: str, content: bytes) -> ClassGroups:
    """Return the groups in the content of a file.

    A table has the column `class` and one column for each grouping. A JSON object has the classes' names as keys, and their
    groups as values.

    Raises: DatasetInvalid for a file that is neither, and for a class that occurs twice.
    """
    if len(content) > _MAX_BYTES:
        raise DatasetInvalid(f"{source} has more than {_MAX_BYTES:,} bytes, too many for a table of class groups.")
    try:
        text = content.decode("utf-8-sig")
        return _parse_object(source, text) if text.lstrip().startswith("{") else _parse_table(source, text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise DatasetInvalid(f"{source} cannot be read as class groups: {str(error)[:_SHOWN]}") from None


def add_class_groups(data: LabelledImages, groups: ClassGroups) -> LabelledImages:
    """Return the data with a column of groups for each column of the table.

    Names of classes are compared by `normalise_name`.

    Raises: DatasetInvalid where a class has no group, the table has another class, or two columns have one name.
    """
    require_few_columns([*(grouping.column for grouping in data.groups), *groups.columns])
    added = []
    for column, group_by_class in groups.columns.items():
        if column in {grouping.column for grouping in data.groups}:
            raise DatasetInvalid(f"{groups.source}: the data already has groups in a column {column!r}. Rename one.")
        by_name = {normalise_name(name): group for name, group in group_by_class.items()}
        classes = [normalise_name(name) for name in data.class_names]
        if unknown := [name for name in group_by_class if normalise_name(name) not in set(classes)]:
            raise DatasetInvalid(
                f"{groups.source} has a group for {quote_names([name[:_SHOWN] for name in unknown])}, but {data.name} has no "
                f"such class. Its classes: {quote_names(data.class_names)}."
            )
        if missing := [name for name in data.class_names if normalise_name(name) not in by_name]:
            raise DatasetInvalid(f"{groups.source} has no group for {quote_names(missing)}. Every class needs one.")
        group_of_label = np.array([by_name[name] for name in classes], dtype=object)
        added.append(Grouping.from_values(column, group_of_label[data.labels.numpy()]))
    return replace(data, groups=(*data.groups, *added))


def _parse_object(source: str, text: str) -> ClassGroups:
    """Return the groups in a JSON object. Raises: ValueError, DatasetInvalid."""
    pairs = json.loads(text, object_pairs_hook=list)
    for name, group in pairs:
        if not isinstance(group, str | int) or isinstance(group, bool):
            raise ValueError(f"the group of {name!r} is neither a string nor a whole number")  # noqa: TRY004 - see the caller
    return _collect(source, ["group"], [(name, [str(group)]) for name, group in pairs])


def _parse_table(source: str, text: str) -> ClassGroups:
    """Return the groups in a table. Raises: csv.Error, DatasetInvalid."""
    lines = split_lines(text, CLASS)
    header = [cell.strip() for cell in next(lines, [])]
    place = next((place for place, cell in enumerate(header) if cell.casefold() in CLASS), None)
    if place is None or len(header) < 2:
        raise DatasetInvalid(
            f"{source} needs the columns `class` and `group`; its first line is {', '.join(header)[:_SHOWN]!r}."
        )
    rows = []
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise DatasetInvalid(f"{source}: row {number} has {len(line)} cells; the first has {len(header)}.")
        cells = [cell.strip() for cell in line]
        rows.append((cells.pop(place), cells))
    return _collect(source, [cell for index, cell in enumerate(header) if index != place], rows)


def _collect(source: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> ClassGroups:
    """Return the groups by column. Raises: DatasetInvalid where a class or a column occurs twice."""
    require_few_columns(columns)
    if len(rows) > MAX_CLASSES:
        raise DatasetInvalid(f"{source} has {len(rows):,} classes; at most {MAX_CLASSES:,} are supported.")
    for kind, names in (("the column", columns), ("the class", [normalise_name(name) for name, _ in rows])):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise DatasetInvalid(f"{source} has {kind} {twice[0][:_SHOWN]!r} twice. Remove one.")
    return ClassGroups(
        source, {column: {name: cells[place] for name, cells in rows} for place, column in enumerate(columns)}
    )
