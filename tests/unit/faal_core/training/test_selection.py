"""What is held out and which epoch is kept."""

import pytest
import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.reports.documents import EpochRow
from faal_core.training.selection import best_epoch, hold_out


def images(per_class: list[int]) -> LabelledImages:
    """That many blank images of each class."""
    labels = torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))
    names = tuple(f"class {c}" for c in range(len(per_class)))
    return LabelledImages(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, names, "blank", "train")


def test_held_out_and_fitted_share_no_image_and_miss_none() -> None:
    """Every image is in exactly one part, and every class gives its share."""
    data = images([100, 50, 10])
    fitted, held_out = hold_out(data, 0.2, seed=3)
    assert sorted(torch.cat([fitted, held_out]).tolist()) == list(range(160))
    assert torch.bincount(data.labels[held_out]).tolist() == [20, 10, 2]


def test_a_class_of_one_image_cannot_be_split() -> None:
    """A class that would lose its only training image is refused with a way out."""
    with pytest.raises(InvalidSpec, match="held_out_share to 0"):
        hold_out(images([10, 1]), 0.1, seed=0)


def test_share_zero_holds_nothing_out() -> None:
    """Without held-out images all are trained on and the last epoch is kept."""
    fitted, held_out = hold_out(images([3, 1]), 0.0, seed=0)
    assert (len(fitted), len(held_out)) == (4, 0)
    assert best_epoch([row(1, None, None), row(2, None, None)]) == 2


def row(epoch: int, mean: float | None, worst: float | None) -> EpochRow:
    """An epoch with those held-out accuracies."""
    return EpochRow(
        epoch=epoch,
        learning_rate=0.1,
        loss=1,
        class_weights=(1, 1),
        held_out_clean=mean,
        held_out_mean=mean,
        held_out_worst=worst,
        seconds=0,
    )


def test_mean_and_worst_count_alike() -> None:
    """The epoch with the greatest sum is kept; of equals the later."""
    assert best_epoch([row(1, 0.6, 0.2), row(2, 0.55, 0.3), row(3, 0.62, 0.1)]) == 2
    assert best_epoch([row(1, 0.5, 0.25), row(2, 0.25, 0.5)]) == 2
