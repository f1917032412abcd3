"""The test of two methods' worst classes, against closed forms and simulations."""

import math

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.worst_class_test import compare_worst, pack, unpack


def draw(rates: tuple[float, ...], images: int, seed: int) -> np.ndarray:
    """Return outcomes of one seed, of as many images of each class, with exactly these rates."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.arange(images) < round(rate * images)) for rate in rates])[None]


def test_one_class_has_the_p_value_of_a_paired_difference() -> None:
    """With one class and one seed, p and interval are those of a paired t-test, with one more pair of either kind."""
    labels, one, other = np.zeros(1000, np.int64), draw((0.5,), 1000, 0), draw((0.47,), 1000, 1)
    difference, pairs = compare_worst(labels, one, other), one[0].astype(float) - other[0]
    error = math.sqrt(pairs.var(ddof=1) / 1000 + 2 / 1000**2)
    bounds = (0.03 + t.ppf(side, 999) * error for side in (0.025, 0.975))
    assert difference == pytest.approx((0.03, *bounds, 2 * t.sf(0.03 / error, 999)), abs=2e-6)


def test_an_image_counts_once_whatever_the_number_of_seeds() -> None:
    """With three seeds, p is that of the paired t-test of the images, whose values are means over the seeds."""
    labels = np.zeros(400, np.int64)
    one, other = (
        np.concatenate([draw((rate,), 400, first + seed) for seed in range(3)]) for rate, first in ((0.55, 0), (0.5, 3))
    )
    pairs = (one.astype(float) - other).mean(0)
    error = math.sqrt(pairs.var(ddof=1) / 400 + 2 / 400**2)
    assert compare_worst(labels, one, other).p_value == pytest.approx(2 * t.sf(pairs.mean() / error, 399))
    repeated = [np.repeat(outcomes[:1], 5, 0) for outcomes in (one, other)]
    assert compare_worst(labels, *repeated) == pytest.approx(compare_worst(labels, one[:1], other[:1]))


@pytest.mark.parametrize(("gained", "exact"), [(8, 2 / 2**8), (5, 2 / 2**5)])
def test_few_changed_images_are_not_overrated(gained: int, exact: float) -> None:
    """Where 100 images gain a few and lose none, p is within two fifths of the exact one of McNemar."""
    after = np.arange(100)[None] < 40 + gained
    assert compare_worst(np.zeros(100, np.int64), after, np.arange(100)[None] < 40).p_value == pytest.approx(
        exact, rel=0.4
    )


def test_a_class_that_was_named_in_advance_is_tested_alone() -> None:
    """The p-value of a worst class that was named is a tenth of that which looks for it among ten classes."""
    labels, one, other = np.arange(10).repeat(300), draw((0.4,) + (0.9,) * 9, 300, 0), draw((0.3,) + (0.9,) * 9, 300, 1)
    p_values = [compare_worst(labels, one, other, weakest).p_value for weakest in (None, 0)]
    assert p_values[0] == pytest.approx(10 * p_values[1])
    assert compare_worst(labels, one, other, 1).p_value == 1


@pytest.mark.parametrize("counts", [(5, 1), (5, 0, 5)])
def test_a_class_without_two_images_is_refused(counts: tuple[int, ...]) -> None:
    """A class with one image has no variance, so nothing can be said of it."""
    labels = np.arange(len(counts)).repeat(counts)
    with pytest.raises(ValueError, match="fewer than two"):
        compare_worst(labels, np.ones((1, len(labels)), bool), np.ones((1, len(labels)), bool))


def test_the_worst_class_counts_wherever_it_is() -> None:
    """The difference is that of the smallest rates of both, in whatever classes these are."""
    labels = np.arange(3).repeat(500)
    difference = compare_worst(labels, draw((0.4, 0.9, 0.8), 500, 0), draw((0.9, 0.8, 0.2), 500, 1))
    assert difference.value == pytest.approx(0.2)
    assert difference.p_value < 0.001


def test_equal_outcomes_show_no_difference() -> None:
    """A method beside itself has difference 0 and p-value 1."""
    labels, one = np.arange(2).repeat(50), np.concatenate([draw((0.4, 0.6), 50, seed) for seed in range(3)])
    difference = compare_worst(labels, one, one)
    assert (difference.value, difference.p_value) == (0, 1)
    assert difference.low <= 0 <= difference.high


def test_seeds_that_disagree_show_no_difference() -> None:
    """Where one seed of two speaks for a method and the other against it, p is large, however many images there are."""
    labels = np.zeros(10_000, np.int64)
    high, low = draw((0.6,), 10_000, 0), draw((0.5,), 10_000, 1)
    assert compare_worst(labels, np.concatenate([high, low]), np.concatenate([low, high])).p_value > 0.4


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("others", [0.4, 0.45, 0.7])
def test_equal_worst_classes_seldom_differ_significantly(others: float, seeds: int) -> None:
    """Of methods with ten classes at 40 % and with one there, some 5 % of draws differ significantly: at most 22 of 300."""
    rng, labels, weakest = np.random.default_rng(0), np.arange(10).repeat(100), None if seeds == 1 else 0

    def draw_outcomes() -> np.ndarray:
        return rng.random((seeds, 1000)) < np.array([0.4] + [others] * 9).repeat(100)

    significant = sum(
        compare_worst(labels, draw_outcomes(), draw_outcomes(), weakest).p_value < 0.05 for _ in range(300)
    )
    assert significant <= 22  # more has a probability of 3 %


def test_the_interval_seldom_misses_the_difference() -> None:
    """Of 100 draws with worst classes at 40 and 30 %, at most 5 have an interval without 10 points; p says whether 0 is in."""
    rng, labels = np.random.default_rng(0), np.arange(5).repeat(400)
    one_rates, other_rates = (
        np.array(rates).repeat(400) for rates in ((0.4, 0.45, 0.6, 0.7, 0.8), (0.3, 0.4, 0.6, 0.7, 0.9))
    )
    missed = 0
    for _ in range(100):
        one, other = (rng.random((1, 2000)) < rates for rates in (one_rates, other_rates))
        difference = compare_worst(labels, one, other)
        missed += not difference.low <= 0.1 <= difference.high
        assert (difference.p_value < 0.05) == (not difference.low <= 0 <= difference.high)
    assert missed <= 5


def test_packed_flags_are_unpacked() -> None:
    """Flags of any number of images come back as they were."""
    flags = draw((0.3,), 13, 0)[0]
    assert (unpack(pack(flags), 13) == flags).all()
