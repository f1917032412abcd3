"""The test of two methods' worst classes, against closed forms and simulations."""

import math

import numpy as np
import pytest

from benchmarks.worst_class_test import compare_worst, pack, unpack


def draw(rates: tuple[float, ...], images: int, seed: int) -> np.ndarray:
    """Return outcomes of one seed, of as many images of each class, with exactly these rates."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.arange(images) < round(rate * images)) for rate in rates])[None]


def test_one_class_has_the_p_value_of_a_paired_difference() -> None:
    """With one class and one seed, p and interval are those of the normal deviate of the mean of paired differences."""
    labels, one, other = np.zeros(1000, np.int64), draw((0.5,), 1000, 0), draw((0.47,), 1000, 1)
    difference, pairs = compare_worst(labels, one, other), one[0].astype(float) - other[0]
    error = pairs.std(ddof=1) / math.sqrt(1000)
    bounds = (0.03 - 1.959964 * error, 0.03 + 1.959964 * error)
    assert difference == pytest.approx((0.03, *bounds, math.erfc(0.03 / error / math.sqrt(2))), abs=2e-6)


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


@pytest.mark.parametrize("others", [0.4, 0.45, 0.7])
def test_equal_worst_classes_seldom_differ_significantly(others: float) -> None:
    """Of methods with ten classes at 40 % and with one there, at most 5 % of draws differ significantly."""
    rng, labels = np.random.default_rng(0), np.arange(10).repeat(100)
    rates = np.array([0.4] + [others] * 9).repeat(100)
    significant = sum(
        compare_worst(labels, rng.random((1, 1000)) < 0.4, rng.random((1, 1000)) < rates).p_value < 0.05
        for _ in range(100)
    )
    assert significant <= 5


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
