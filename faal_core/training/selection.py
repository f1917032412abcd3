"""Which epoch's weights are kept, judged on images held out from the training data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.reports.documents import EpochRow


def hold_out(data: LabelledImages, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers to train on and row numbers held out: `share` of every class, at least one image, drawn by `seed`.

    Raises: InvalidSpec where a class would have nothing left to train on.
    """
    if share == 0:
        return torch.arange(len(data)), torch.arange(0)
    if data.counts.min() < 2:
        scarce = data.class_names[int(data.counts.argmin())]
        raise InvalidSpec(f"Class {scarce!r} has one training image: nothing can be held out; set held_out_share to 0.")
    held_out = data.stratified(max(len(data.class_names), round(share * len(data))), seed)
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[held_out] = False
    fitted = kept.nonzero().squeeze(1)
    if len(data.labels[fitted].unique()) < len(data.class_names):
        raise InvalidSpec(f"held_out_share {share} leaves a class of {data.name} without a training image.")
    return fitted, held_out


def best_epoch(epochs: Sequence[EpochRow]) -> int:
    """The number of the epoch with the highest held-out mean plus worst-class robust accuracy.

    Of equals the later one; the last where nothing was held out. Differs from the published code, which chose on test images.
    """
    last = epochs[-1]
    if last.held_out_mean is None:
        return last.epoch
    return max(epochs, key=lambda row: ((row.held_out_mean or 0) + (row.held_out_worst or 0), row.epoch)).epoch
