"""Class × group cells on a few images, counted by hand."""

import numpy as np
import pytest

from faal_core.results.cells import CellScheme, compare_again, compare_cells, join_cells
from faal_core.results.comparison import compare
from faal_core.results.image_outcomes import UNBROKEN, Evaluation
from faal_core.results.outcomes import Outcomes

GROUPS = ("a", "b", "c", "d")


def scheme(counts: list[list[int]], min_images: int) -> CellScheme:
    """Return the cells of that many images of each class (row) and group (column)."""
    table = np.array(counts)
    labels, members = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    names = [f"class {c}" for c in range(len(counts))]
    return join_cells(labels, members, names, "site", GROUPS[: table.shape[1]], min_images)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10, 12, 15], [("a", 10), ("b", 12), ("c", 15)]),
        ([10, 6, 15, 5], [("a", 10), ("c", 15), ("b + d", 11)]),
        ([10, 4, 15, 5], [("a + b + 1 more", 19), ("c", 15)]),
        ([20, 4, 15, 0], [("a", 20), ("b + c", 19)]),
        ([4, 3, 0, 2], [("all groups", 9)]),
        ([6, 6, 0, 0], [("all groups", 12)]),
        ([0, 3, 0, 0], [("b", 3)]),
        ([0, 0, 0, 0], [("all groups", 0)]),
    ],
    ids=[
        "all large",
        "rest is a cell",
        "rest joins smallest",
        "one small",
        "all small",
        "sum large",
        "one group",
        "none",
    ],
)
def test_small_pairs_are_joined_within_their_class(counts: list[int], expected: list[tuple[str, int]]) -> None:
    """With a floor of 10, small pairs of a class become one cell, or join its smallest other cell if they are still too few."""
    cells = scheme([[20, 20, 20, 20][: len(counts)], counts], 10).cells[len(counts) :]
    assert [(cell.name, cell.label, cell.images) for cell in cells] == [
        (f"class 1 × {name}", 1, images) for name, images in expected
    ]


def test_no_two_cells_have_one_name() -> None:
    """A group that is called like two joined ones gives its cell their name, so both names get the number of the cell."""
    labels, members = np.zeros(24, np.int64), np.repeat(np.arange(3), [12, 6, 6])
    joined = join_cells(labels, members, ("cat",), "site", ("a + b", "a", "b"), 10)
    assert joined.names == ("cat × a + b [0]", "cat × a + b [1]")


def test_every_image_is_in_exactly_one_cell() -> None:
    """Pairs that the training data lacks belong to the joined cell of the class, or to its smallest cell."""
    cells = scheme([[10, 6, 15, 5], [30, 20, 0, 0]], 10)
    assert cells.names == ("class 0 × a", "class 0 × c", "class 0 × b + d", "class 1 × a", "class 1 × b")
    labels, groups = [0, 0, 0, 0, 0, 1, 1, 1], ["a", "b", "c", "d", "new", "a", "c", "new"]
    assert cells.locate(labels, groups).tolist() == [0, 2, 1, 2, 2, 3, 4, 4]


def outcomes(robust: list[bool], labels: list[int], groups: list[str]) -> Outcomes:
    """Return outcomes of images that are all correct without an attack."""
    y, holds = np.array(labels), np.array(robust)
    evaluation = Evaluation(
        labels=y,
        clean=y,
        attacked=np.where(holds, y, 1 - y),
        broken_by=np.where(holds, UNBROKEN, 0),
        distance=np.zeros(len(y)),
        clean_margin=np.ones(len(y)),
        margin=np.where(holds, 1.0, -1.0),
        sha256=("",) * len(y),
    )
    return Outcomes(evaluation, np.arange(len(y)), {"site": tuple(groups)})


def test_cells_are_compared_as_classes_are() -> None:
    """A cell has the gained and lost images, and the McNemar test with Holm, of `compare` with the cells as classes."""
    cells = scheme([[10, 10], [10, 2]], 5)
    labels, groups = [0] * 20 + [1] * 10, ["a"] * 10 + ["b"] * 10 + ["b"] * 4 + ["new"] * 6
    robust = [False] * 9 + [True] * 21
    before, after = outcomes(robust, labels, groups), outcomes([True] * 29 + [False], labels, groups)
    compared = compare_cells(cells, before, after, ("class 0", "class 1"), 0.95)
    assert [(row.name, row.groups, row.training_images, row.test_images) for row in compared.cells] == [
        ("class 0 × a", ("a",), 10, 10),
        ("class 0 × b", ("b",), 10, 10),
        ("class 1 × all groups", ("a", "b", "new"), 12, 10),
    ]
    changes = [(row.before, row.after, row.gained, row.lost) for row in compared.robust.classes]
    assert changes == [(0.1, 1.0, 9, 0), (1.0, 1.0, 0, 0), (1.0, 0.9, 0, 1)]
    assert compared.robust.classes[0].p_value == pytest.approx(2 * 0.5**9)
    assert compared.robust.classes[0].p_adjusted == pytest.approx(3 * 2 * 0.5**9)
    numbers = np.repeat([0, 1, 2], 10)
    names = tuple(row.name for row in compared.cells)
    assert compared.robust == compare(numbers, before.evaluation.robust, after.evaluation.robust, names, 0.95)
    assert compare_again(compared, before, after, ("class 0", "class 1"), 0.95) == compared
