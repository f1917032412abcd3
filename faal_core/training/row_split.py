"""Which training images are trained on, and which validate."""

from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Labels
from faal_core.datasets.labelled_images import LabelledImages, draw_stratified
from faal_core.errors import InvalidSpec


class RowSplit(NamedTuple):
    """Row numbers of the images that are trained on, and of the validation images; no row is in both."""

    training: Tensor
    validation: Tensor


def split_rows(data: LabelledImages, validation_fraction: float, seed: int) -> RowSplit:
    """Split all rows, drawn by `seed`: that fraction of every class validates, at least one image; none where it is 0.

    Raises: InvalidSpec where a class would have nothing left to train on.
    """
    if validation_fraction == 0:
        return RowSplit(torch.arange(len(data)), torch.arange(0))
    if data.counts.min() < 2:
        scarce = data.class_names[int(data.counts.argmin())]
        raise InvalidSpec(
            f"Class {scarce!r} has one training image, so none is left for validation; set validation_fraction to 0."
        )
    validation = data.stratified(max(len(data.class_names), round(validation_fraction * len(data))), seed)
    is_training = torch.ones(len(data), dtype=torch.bool)
    is_training[validation] = False
    training = is_training.nonzero().squeeze(1)
    if len(data.labels[training].unique()) < len(data.class_names):
        raise InvalidSpec(
            f"validation_fraction {validation_fraction} leaves a class of {data.name} without a training image."
        )
    return RowSplit(training, validation)


def sample_rows(rows: Tensor, labels: Labels, count: int, seed: int) -> Tensor:
    """Draw `count` of these rows, or all, stratified by class with at least one row of each.

    Args:
        labels: of these rows, `n`.
    """
    counts = torch.bincount(labels).numpy()
    return rows[draw_stratified(labels, counts, min(max(count, len(counts)), len(rows)), seed)]
