"""Test the split into training and validation images, and the selection of epoch and candidate."""

import pytest
import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.specs import TrainingSpec
from faal_core.training.row_split import split_rows
from faal_core.training.selection import (
    Candidates,
    MeasuredWeights,
    Starts,
    Weights,
    best_candidate,
    best_epoch,
    best_offset_scale,
    describe_candidates,
    interpolate,
    measure_candidates,
)
from faal_core.training.validation import ValidationAccuracy


def images(per_class: list[int]) -> LabelledImages:
    """Return that many blank images of each class."""
    labels = torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))
    names = tuple(f"class {c}" for c in range(len(per_class)))
    return LabelledImages(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, names, "blank", "train")


def test_training_and_validation_share_no_image_and_miss_none() -> None:
    """Every image is in exactly one part, and every class has the same fraction of validation images."""
    data = images([100, 50, 10])
    training, validation = split_rows(data, 0.2, seed=3)
    assert sorted(torch.cat([training, validation]).tolist()) == list(range(160))
    assert torch.bincount(data.labels[validation]).tolist() == [20, 10, 2]


def test_a_class_of_one_image_cannot_be_split() -> None:
    """A class that would lose its only training image is refused with advice."""
    with pytest.raises(InvalidSpec, match="validation_fraction to 0"):
        split_rows(images([10, 1]), 0.1, seed=0)


def test_without_a_validation_fraction_all_images_are_trained_on() -> None:
    """With a validation fraction of 0, all images are for training."""
    training, validation = split_rows(images([3, 1]), 0.0, seed=0)
    assert (len(training), len(validation)) == (4, 0)


def accuracy(mean: float, worst: float, clean: float = 0.9) -> ValidationAccuracy:
    """Return accuracies of two classes with that robust mean and worst class, and equal clean accuracies."""
    return ValidationAccuracy((clean, clean), (worst, 2 * mean - worst), (50, 50))


GIVEN = accuracy(0.6, 0.1)
UNBOUNDED = TrainingSpec(max_robust_drop=None, max_clean_drop=None)


def test_mean_and_worst_class_have_equal_weight_for_an_epoch() -> None:
    """Without bounds, the epoch with the greatest sum of mean and worst class is selected, and of equal ones the later."""
    assert best_epoch([accuracy(0.6, 0.2), accuracy(0.55, 0.3), accuracy(0.62, 0.1)], None, UNBOUNDED) == 1
    assert best_epoch([accuracy(0.5, 0.25), accuracy(0.375, 0.375)], None, UNBOUNDED) == 1


@pytest.mark.parametrize(
    "costly", [accuracy(0.55, 0.5), accuracy(0.6, 0.5, clean=0.85)], ids=["robust mean", "clean mean"]
)
def test_an_epoch_within_the_bounds_goes_before_one_that_is_not(costly: ValidationAccuracy) -> None:
    """An epoch that costs more robust or clean accuracy than allowed is not selected, however good its worst class is."""
    assert best_epoch([accuracy(0.6, 0.2), costly], GIVEN, TrainingSpec()) == 0
    assert best_epoch([costly, costly], GIVEN, TrainingSpec()) == 1


def test_weights_are_interpolated() -> None:
    """The interpolation at 0.25 between 0 and 4 is 1; counters, which cannot be interpolated, are the end's."""
    start = {"weight": torch.zeros(2), "batches": torch.tensor(3)}
    end = {"weight": torch.full((2,), 4.0), "batches": torch.tensor(9)}
    assert interpolate(start, end, 0.25)["weight"].tolist() == [1, 1]
    assert interpolate(start, end, 0.25)["batches"] == 9
    for share, same in ((0.0, start), (1.0, end)):
        assert torch.equal(interpolate(start, end, share)["weight"], same["weight"])


def test_candidates_are_judged_and_the_front_is_marked() -> None:
    """The five candidates have ascending interpolations, and the front has those that no other beats in mean and worst class."""
    by_share = {0.25: (0.6, 0.2), 0.5: (0.58, 0.2), 0.75: (0.57, 0.3)}

    def judge(some: Weights) -> ValidationAccuracy:
        return accuracy(*by_share[float(some["weight"])])

    start, end = ({"weight": torch.tensor(value)} for value in (0.0, 1.0))
    best = MeasuredWeights(1.0, 0.0, accuracy(0.5, 0.35))
    measurements = measure_candidates(Starts(GIVEN, {}), start, best, end, UNBOUNDED, judge).in_order
    assert {one.offset_scale for one in measurements} == {0.0}
    assert [one.interpolation for one in measurements] == [0, 0.25, 0.5, 0.75, 1]
    assert [one.interpolation for one in measurements if one.on_front] == [0.25, 0.75, 1]
    assert (measurements[-1].robust, measurements[-1].robust_worst) == (0.5, 0.35)


@pytest.mark.parametrize(
    ("whole", "offsets"),
    [(accuracy(0.591, 0.3), 1.0), (accuracy(0.589, 0.3), 0.5), (accuracy(0.6, 0.3, clean=0.889), 0.5)],
    ids=["within", "robust mean", "clean mean"],
)
def test_training_begins_with_as_much_of_the_offsets_as_the_bounds_allow(
    whole: ValidationAccuracy, offsets: float
) -> None:
    """Training starts with none, half or all of the class offsets, by the best worst class within the bounds."""
    starts = Starts(GIVEN, {0.5: accuracy(0.595, 0.2), 1.0: whole})
    assert best_offset_scale(starts, TrainingSpec()) == offsets
    assert best_offset_scale(None, TrainingSpec()) == 0


def test_every_start_of_the_training_is_a_candidate() -> None:
    """The given weights, and those with scaled class offsets, are candidates too, before the interpolations."""
    starts = Starts(GIVEN, {0.5: accuracy(0.6, 0.2), 1.0: accuracy(0.5, 0.3)})

    def judge(some: Weights) -> ValidationAccuracy:
        return accuracy(0.5, 0.5, clean=float(some["weight"]))

    start, end = ({"weight": torch.tensor(value)} for value in (4.0, 8.0))
    best = MeasuredWeights(1.0, 0.5, accuracy(0.5, 0.5))
    measurements = measure_candidates(starts, start, best, end, TrainingSpec(), judge).in_order
    expected = [(0, 0, 0.9), (0, 0.5, 0.9), (0, 1, 0.9), (0.25, 0.5, 5), (0.5, 0.5, 6), (0.75, 0.5, 7)]
    assert [(one.interpolation, one.offset_scale, one.clean) for one in measurements[:-1]] == expected


def candidates(training: TrainingSpec, original: ValidationAccuracy, *others: ValidationAccuracy) -> Candidates:
    """Return candidates with those accuracies, at ascending interpolations."""
    measurements = [MeasuredWeights(place / 10, 0.0, one) for place, one in enumerate(others, 1)]
    return describe_candidates(Starts(original, {}), measurements, training)


def best_number(choices: Candidates) -> int:
    """Return the number of the best candidate, from 0; 0 is the given weights."""
    return choices.in_order.index(best_candidate(choices))


@pytest.mark.parametrize(("drop", "best"), [(0.0, 1), (0.02, 2), (0.03, 4), (1.0, 4), (None, 4)])
def test_the_worst_class_is_as_robust_as_the_mean_allows(drop: float | None, best: int) -> None:
    """Among candidates whose robust mean falls by at most the bound, the worst class decides, and then the mean."""
    choices = candidates(
        TrainingSpec(max_robust_drop=drop),
        GIVEN,
        accuracy(0.61, 0.2),
        accuracy(0.58, 0.3),
        accuracy(0.575, 0.3),
        accuracy(0.57, 0.4),
    )
    assert best_number(choices) == best


@pytest.mark.parametrize(("drop", "best"), [(0.0, 1), (0.02, 2), (None, 2)])
def test_the_clean_accuracy_is_bounded_too(drop: float | None, best: int) -> None:
    """Weights that cost more clean accuracy than allowed are not selected, however robust their worst class is."""
    choices = candidates(
        TrainingSpec(max_clean_drop=drop), GIVEN, accuracy(0.6, 0.2, clean=0.9), accuracy(0.6, 0.4, clean=0.88)
    )
    assert best_number(choices) == best


@pytest.mark.parametrize(("drop", "best"), [(0.05, 0), (0.2, 1), (None, 1)])
@pytest.mark.parametrize(
    "other",
    [
        ValidationAccuracy((0.9, 0.9), (0.3, 0.9), (50, 50)),
        ValidationAccuracy((1.0, 0.8), (0.3, 1.1), (50, 50)),
    ],
    ids=["robust class", "clean class"],
)
def test_a_single_class_can_be_bounded(other: ValidationAccuracy, drop: float | None, best: int) -> None:
    """With a bound on single classes, no class may lose more, clean or robust, even if both means are within their bounds."""
    original = ValidationAccuracy((0.9, 0.9), (0.1, 1.05), (50, 50))
    choices = candidates(TrainingSpec(max_class_drop=drop), original, other)
    assert choices.others[0].class_drop == pytest.approx(0.15 if other.clean == original.clean else 0.1)
    assert best_number(choices) == best


def test_a_mean_exactly_at_the_bound_is_allowed() -> None:
    """A fall from 4 of 50 to 1 of 50 is within a bound of 3 of 50, in spite of rounding."""
    choices = candidates(TrainingSpec(max_robust_drop=3 / 50), accuracy(4 / 50, 0.0), accuracy(1 / 50, 1 / 50))
    assert best_number(choices) == 1


@pytest.mark.parametrize("other", [accuracy(0.5, 0.4), accuracy(0.9, 0.1), accuracy(0.9, 0.05)])
def test_if_no_worst_class_is_better_the_given_weights_are_selected(other: ValidationAccuracy) -> None:
    """Weights beyond the bounds, or whose worst class is no better, are not selected, whatever else they gain."""
    assert best_number(candidates(TrainingSpec(max_robust_drop=0.05), GIVEN, other)) == 0


@pytest.mark.parametrize(("trained", "scale", "place"), [(0.35, 1.0, 0.0), (0.36, 0.5, 0.25)])
def test_trained_weights_gain_more_than_a_standard_error(trained: float, scale: float, place: float) -> None:
    """With 50 images a class, training must exceed the 29 % of offsets by √(0.298 · 0.702 / 50), 6.5 points; offsets need not."""
    starts = Starts(GIVEN, {0.5: accuracy(0.6, 0.28), 1.0: accuracy(0.6, 0.29)})
    choices = describe_candidates(starts, [MeasuredWeights(0.25, 0.5, accuracy(0.7, trained))], TrainingSpec())
    best = best_candidate(choices)
    assert (best.offset_scale, best.interpolation) == (scale, place)
    assert choices.others[1].worst_standard_error == pytest.approx((15.5 / 52 * 36.5 / 52 / 50) ** 0.5)


@pytest.mark.parametrize("kind", ["robust", "clean"])
def test_the_mean_over_images_is_bounded_as_the_mean_of_the_classes_is(kind: str) -> None:
    """If one class has 950 of 1,000 images, a gain of the rare class does not hide its loss, clean or robust."""
    original = ValidationAccuracy((0.95, 0.6), (0.8, 0.4), (950, 50))
    clean, robust = [(0.87, 0.7), (0.8, 0.5)] if kind == "clean" else [(0.95, 0.6), (0.72, 0.5)]
    other = ValidationAccuracy(clean, robust, (950, 50))
    assert best_number(candidates(TrainingSpec(max_robust_drop=0.01), original, other)) == 0
    assert best_number(candidates(TrainingSpec(max_robust_drop=0.08, max_clean_drop=0.08), original, other)) == 1


@pytest.mark.parametrize(("images", "best"), [(100, 0), (20_000, 1)])
def test_a_bound_holds_beyond_half_a_standard_error(images: int, best: int) -> None:
    """A bound must hold by half of the standard error, which is here 2.4 points for 100 images and 0.2 for 20,000."""
    place = torch.arange(images) % 100
    before, after = place >= 3, (place < 3) | (place >= 6)
    clean = torch.ones(images, dtype=torch.bool)
    original, other = (
        ValidationAccuracy((1.0, 1.0), (worst, 1.94 - worst), (images // 2,) * 2, clean, robust)
        for worst, robust in ((0.95, before), (0.96, after))
    )
    assert best_number(candidates(TrainingSpec(), original, other)) == best
