"""What is held out and which epoch is kept."""

import pytest
import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.reports.documents import Candidate, EpochRow
from faal_core.training.selection import (
    Beginning,
    Weights,
    best_beginning,
    best_candidate,
    best_epoch,
    between,
    candidates,
    hold_out,
)
from faal_core.training.validation import HeldOutAccuracy


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


def test_weights_lie_between() -> None:
    """A quarter of the way from 0 to 4 is 1; counters, which have no way between, are the end's."""
    start = {"weight": torch.zeros(2), "batches": torch.tensor(3)}
    end = {"weight": torch.full((2,), 4.0), "batches": torch.tensor(9)}
    assert between(start, end, 0.25)["weight"].tolist() == [1, 1]
    assert between(start, end, 0.25)["batches"] == 9
    for share, same in ((0.0, start), (1.0, end)):
        assert torch.equal(between(start, end, share)["weight"], same["weight"])


GIVEN = HeldOutAccuracy(clean=0.9, mean=0.6, worst=0.1)


def test_candidates_are_judged_and_the_front_is_marked() -> None:
    """Five weights ascending from the given ones; on the front are those that no other beats in one without losing the other."""
    by_share = {0.25: (0.6, 0.2), 0.5: (0.58, 0.2), 0.75: (0.57, 0.3)}

    def judge(some: Weights) -> HeldOutAccuracy:
        mean, worst = by_share[float(some["weight"])]
        return HeldOutAccuracy(clean=0.9, mean=mean, worst=worst)

    start, end = ({"weight": torch.tensor(value)} for value in (0.0, 1.0))
    found = candidates([Beginning(0.0, GIVEN)], 0.0, start, end, row(2, 0.5, 0.35), judge)
    assert {one.offsets for one in found} == {0.0}
    assert [one.share for one in found] == [0, 0.25, 0.5, 0.75, 1]
    assert [one.share for one in found if one.on_front] == [0.25, 0.75, 1]
    assert (found[-1].mean, found[-1].worst) == (0.5, 0.35)


@pytest.mark.parametrize(("mean", "offsets"), [(0.591, 1.0), (0.589, 0.5)])
def test_training_begins_with_as_much_of_the_offsets_as_the_mean_allows(mean: float, offsets: float) -> None:
    """Of the given weights, half and all of the offsets that is begun with whose worst class is best within the bound."""
    half, whole = HeldOutAccuracy(0.9, 0.595, 0.2), HeldOutAccuracy(0.9, mean, 0.3)
    assert best_beginning([Beginning(0.0, GIVEN), Beginning(0.5, half), Beginning(1.0, whole)], 0.01) == offsets
    assert best_beginning([], 0.01) == 0


def test_what_training_could_begin_with_can_be_kept() -> None:
    """With class offsets the given weights, those with half of the offsets and those with all are candidates too."""
    beginnings = [Beginning(share, GIVEN) for share in (0.0, 0.5, 1.0)]

    def judge(some: Weights) -> HeldOutAccuracy:
        return HeldOutAccuracy(clean=float(some["weight"]), mean=0.5, worst=0.5)

    start, end = ({"weight": torch.tensor(value)} for value in (4.0, 8.0))
    found = candidates(beginnings, 0.5, start, end, row(1, 0.5, 0.5), judge)
    seen = [(0, 0, 0.9), (0, 0.5, 0.9), (0, 1, 0.9), (0.25, 0.5, 5), (0.5, 0.5, 6), (0.75, 0.5, 7)]
    assert [(one.share, one.offsets, one.clean) for one in found[:-1]] == seen


def candidate(share: float, mean: float, worst: float) -> Candidate:
    """Weights with those held-out accuracies."""
    return Candidate(share=share, clean=1, mean=mean, worst=worst, on_front=False)


@pytest.mark.parametrize(("fall", "share"), [(0.0, 0.25), (0.02, 0.5), (0.03, 1.0), (1.0, 1.0)])
def test_the_worst_class_is_as_robust_as_the_mean_allows(fall: float, share: float) -> None:
    """The mean may fall by so much from the given weights'; within that the worst class decides, then the mean."""
    found = [
        candidate(0.0, 0.6, 0.1),
        candidate(0.25, 0.61, 0.2),
        candidate(0.5, 0.58, 0.3),
        candidate(0.75, 0.575, 0.3),
        candidate(1.0, 0.57, 0.4),
    ]
    assert best_candidate(found, fall).share == share


def test_a_mean_exactly_at_the_bound_is_allowed() -> None:
    """From 4 of 50 to 1 of 50 is a fall of 3 of 50, whatever the rounding."""
    assert best_candidate([candidate(0.0, 4 / 50, 0.0), candidate(1.0, 1 / 50, 0.1)], 3 / 50).share == 1


def test_where_nothing_is_better_the_given_weights_stay() -> None:
    """Weights that lose more than they may are not kept, whatever they gain."""
    assert best_candidate([candidate(0.0, 0.6, 0.3), candidate(1.0, 0.5, 0.4)], 0.05).share == 0
