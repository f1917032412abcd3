"""The cells that a training weighs, validates and reports: classes, or class × group cells."""

from dataclasses import dataclass

import torch
from torch import Tensor

from faal_core.datasets.class_order import quote_names
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import GroupsMissing
from faal_core.results.cells import CellScheme, join_cells
from faal_core.specs import CellMethod, MethodSpec


@dataclass(frozen=True, slots=True)
class Cells:
    """The cell of each image: its class, unless the spec names a column of groups.

    Args:
        numbers: cell of each image, `n`, int64, in 0..count-1.
        count: number of cells.
    """

    numbers: Tensor
    count: int

    def take(self, rows: Tensor) -> "Cells":
        """Return the cells of those images."""
        return Cells(self.numbers[rows], self.count)


def use_classes(data: LabelledImages) -> Cells:
    """Return the classes as cells."""
    return Cells(data.labels, len(data.class_names))


def assign_cells(data: LabelledImages, method: MethodSpec) -> Cells:
    """Return the cells of the training data. Raises: GroupsMissing where the data lacks the column of groups."""
    scheme = find_scheme(data, method)
    if scheme is None:
        return use_classes(data)
    numbers = scheme.locate(data.labels.numpy(), list_groups(data, scheme.column))
    return Cells(torch.from_numpy(numbers), len(scheme.cells))


def find_scheme(data: LabelledImages, method: MethodSpec) -> CellScheme | None:
    """Return the class × group cells of the training data; None where the method does not name a column of groups.

    Raises: GroupsMissing where the data lacks the column.
    """
    if not isinstance(method, CellMethod) or method.groups is None:
        return None
    require_column(data, method.groups)
    grouping = next(one for one in data.groups if one.column == method.groups)
    return join_cells(
        data.labels.numpy(), grouping.members, data.class_names, grouping.column, grouping.names, method.min_cell_images
    )


def require_column(data: LabelledImages, column: str) -> None:
    """Check that the data has that column of groups. Raises: GroupsMissing."""
    columns = [grouping.column for grouping in data.groups]
    if column not in columns:
        has = f"its columns are {quote_names(columns)}" if columns else "it has none"
        raise GroupsMissing(
            f"method.groups: the {data.part} part of {data.name} has no column of groups {column!r}; {has}."
        )


def list_groups(data: LabelledImages, column: str) -> list[str]:
    """Return the name of each image's group in that column."""
    grouping = next(one for one in data.groups if one.column == column)
    return [grouping.names[member] for member in grouping.members]
