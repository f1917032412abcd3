"""Class × group cells: which pairs of class and group count as one cell, and how the cells compare before and after."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from faal_core.results.comparison import compare
from faal_core.results.finetune_documents import CellComparison, CellRow
from faal_core.results.image_outcomes import Rows
from faal_core.results.outcomes import Outcomes

_NAMED_GROUPS = 2  # most groups in the name of a cell; the name counts the others


class Cell(NamedTuple):
    """Holds a cell: its name, its class, its groups that have training images of the class, and the number of these images."""

    name: str
    label: int
    groups: tuple[str, ...]
    images: int


@dataclass(frozen=True)
class CellScheme:
    """Assigns every pair of class and group to a cell.

    Args:
        column: column of groups.
        cells: cells of the first class first, then of the next; every class has at least one.
        number_by_pair: number of the cell of each pair of class and group that occurs in the training data.
        defaults: for each class, the number of the cell that other groups belong to.
    """

    column: str
    cells: tuple[Cell, ...]
    number_by_pair: Mapping[tuple[int, str], int]
    defaults: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the cells."""
        return tuple(cell.name for cell in self.cells)

    def locate(self, labels: Sequence[int] | Rows, groups: Sequence[str]) -> Rows:
        """Return the number of the cell of each image, given its class and its group, `n` each."""
        pairs = zip(map(int, labels), groups, strict=True)
        return np.array([self.number_by_pair.get(pair, self.defaults[pair[0]]) for pair in pairs], np.int64)


def join_cells(
    labels: Rows,
    members: Rows,
    class_names: Sequence[str],
    column: str,
    group_names: Sequence[str],
    min_images: int,
) -> CellScheme:
    """Return the cells of these training images: each pair of class and group with at least `min_images` images is one.

    The other pairs of a class are joined into one cell. If that cell is still too small, it joins the smallest other cell of
    the class, where there is one. Groups without a training image of a class belong to the same cell as its small pairs.

    Args:
        labels, members: class and group of each image, `n` each.
    """
    counts = np.zeros((len(class_names), len(group_names)), np.int64)
    np.add.at(counts, (labels, members), 1)
    cells: list[Cell] = []
    number_by_pair: dict[tuple[int, str], int] = {}
    defaults = []
    for label, class_counts in enumerate(counts):
        parts, default = _join_groups(class_counts, min_images)
        defaults.append(len(cells) + default)
        occurring = int((class_counts > 0).sum())
        for part in parts:
            groups = tuple(group_names[g] for g in part)
            number_by_pair.update({(label, group): len(cells) for group in groups})
            name = f"{class_names[label]} × {_name_groups(groups, occurring)}"
            cells.append(Cell(name, label, groups, int(class_counts[part].sum())))
    return CellScheme(column, _distinguish(cells), number_by_pair, tuple(defaults))


def _distinguish(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells; those of equal names get their number, since reports find cells by their names."""
    counts = Counter(cell.name for cell in cells)
    return tuple(
        cell._replace(name=f"{cell.name} [{number}]") if counts[cell.name] > 1 else cell
        for number, cell in enumerate(cells)
    )


def _join_groups(counts: Rows, min_images: int) -> tuple[list[list[int]], int]:
    """Return the groups of each cell of a class, and the place of the cell for groups that the class has no images of.

    Args:
        counts: number of training images of the class in each group.
    """
    parts = [[int(g)] for g in np.flatnonzero(counts >= min_images)]
    small = [int(g) for g in np.flatnonzero((counts > 0) & (counts < min_images))]
    if not parts or counts[small].sum() >= min_images:
        return [*parts, small], len(parts)
    smallest = min(range(len(parts)), key=lambda place: counts[parts[place][0]])
    parts[smallest] = sorted([*parts[smallest], *small])
    return parts, smallest


def _name_groups(groups: Sequence[str], occurring: int) -> str:
    """Return the name of the groups of a cell, "north", "north + south", "north + south + 3 more", "all groups".

    Args:
        occurring: number of groups that have images of the class.
    """
    if len(groups) == occurring != 1:
        return "all groups"
    more = len(groups) - _NAMED_GROUPS
    return " + ".join([*groups[:_NAMED_GROUPS], *([f"{more} more"] if more > 0 else [])])


def compare_cells(
    scheme: CellScheme, before: Outcomes, after: Outcomes, class_names: Sequence[str], confidence: float
) -> CellComparison:
    """Return the changes of each cell between two audits of the same images, as `compare` returns those of classes."""
    labels, groups = before.evaluation.labels, before.groups[scheme.column]
    numbers = scheme.locate(labels, groups)
    groups_of_cells = [set(cell.groups) for cell in scheme.cells]
    for number, group in zip(numbers, groups, strict=True):
        groups_of_cells[number].add(group)
    sizes = np.bincount(numbers, minlength=len(scheme.cells))
    rows = tuple(
        CellRow(
            name=cell.name,
            class_name=class_names[cell.label],
            groups=tuple(sorted(groups_of_cells[number])),
            training_images=cell.images,
            test_images=int(sizes[number]),
        )
        for number, cell in enumerate(scheme.cells)
    )
    return _compare_rows(scheme.column, rows, numbers, before, after, confidence)


def compare_again(
    cells: CellComparison, before: Outcomes, after: Outcomes, class_names: Sequence[str], confidence: float
) -> CellComparison:
    """Return the changes of these cells, counted again from the outcomes of the images.

    Raises: KeyError where the outcomes have no such column, or an image belongs to no cell.
    """
    number_by_pair = {(row.class_name, group): n for n, row in enumerate(cells.cells) for group in row.groups}
    pairs = zip(before.evaluation.labels, before.groups[cells.column], strict=True)
    numbers = np.array([number_by_pair[class_names[label], group] for label, group in pairs], np.int64)
    sizes = np.bincount(numbers, minlength=len(cells.cells)).tolist()
    rows = [row.model_copy(update={"test_images": size}) for row, size in zip(cells.cells, sizes, strict=True)]
    return _compare_rows(cells.column, tuple(rows), numbers, before, after, confidence)


def _compare_rows(
    column: str, rows: tuple[CellRow, ...], numbers: Rows, before: Outcomes, after: Outcomes, confidence: float
) -> CellComparison:
    names, one, other = tuple(row.name for row in rows), before.evaluation, after.evaluation
    return CellComparison(
        column=column,
        cells=rows,
        clean=compare(numbers, one.correct, other.correct, names, confidence),
        robust=compare(numbers, one.robust, other.robust, names, confidence),
    )
