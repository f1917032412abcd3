"""Which training images are trained on, and which validate."""

from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.datasets.labelled_images import LabelledImages, draw_stratified
from faal_core.errors import InvalidSpec
from faal_core.training.cells import Cells, use_classes


class RowSplit(NamedTuple):
    """Row numbers of the images that are trained on, and of the validation images; no row is in both."""

    training: Tensor
    validation: Tensor


def split_rows(data: LabelledImages, validation_fraction: float, seed: int, cells: Cells | None = None) -> RowSplit:
    """Split all rows, drawn by `seed`: that fraction of every cell validates, at least one image; none where it is 0.

    Args:
        cells: of the data; the classes when absent.
    Raises: InvalidSpec where a cell would have nothing left to train on.
    """
    cells = cells or use_classes(data)
    if validation_fraction == 0:
        return RowSplit(torch.arange(len(data)), torch.arange(0))
    if data.counts.min() < 2:
        scarce = data.class_names[int(data.counts.argmin())]
        raise InvalidSpec(
            f"Class {scarce!r} has one training image, so none is left for validation; set validation_fraction to 0."
        )
    count = max(cells.count, round(validation_fraction * len(data)))
    validation = sample_rows(torch.arange(len(data)), cells, count, seed)
    is_training = torch.ones(len(data), dtype=torch.bool)
    is_training[validation] = False
    training = is_training.nonzero().squeeze(1)
    if len(cells.numbers[training].unique()) < cells.count:
        raise InvalidSpec(
            f"validation_fraction {validation_fraction} leaves a class or cell of {data.name} without a training image."
        )
    return RowSplit(training, validation)


def sample_rows(rows: Tensor, cells: Cells, count: int, seed: int) -> Tensor:
    """Draw `count` of these rows, or all, stratified by cell with at least one row of each.

    Args:
        cells: of these rows.
    """
    counts = torch.bincount(cells.numbers).numpy()
    return rows[draw_stratified(cells.numbers, counts, min(max(count, len(counts)), len(rows)), seed)]
