"""Compute the number of images that decides a requirement, for planning: the measured rates are taken for the true ones."""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import special

from faal_core.results import intervals

PROBABILITY = 0.8  # of a decision, at the number of images that is returned
MOST = 10_000_000  # images; nobody audits more
_DRAWS, _FEWEST_DRAWS, _RATES_DRAWN = 1_000, 200, 100_000  # of all class rates; for many classes fewer, to save time
_GRID = 2_001  # counts at which bounds are computed; others are interpolated, exact to 0.002 points


def images_for_smallest(
    rates: intervals.Vector,
    limit: float,
    confidence: float,
    *,
    audited: int,
    bounds: intervals.Bounds = intervals.clopper_pearson,
) -> int | None:
    """Return the number of images per class with which the smallest rate is decided to be at least `limit`, or below it.

    With one rate, such as a mean, that rate is the smallest.

    Args:
        audited: number of images per class that did not decide; the result is larger.
        bounds: bounds of a single rate.
    Returns: None where more than `MOST` images are needed.
    """

    def decides(images: int) -> float:
        passing, not_failing = critical_counts(images, limit, 1 - (1 - confidence) / len(rates), bounds)
        return _all_reach(passing, images, rates) + 1 - _all_reach(not_failing, images, rates)

    return _find_fewest(decides, audited)


def images_for_one(
    rate: float,
    limit: float,
    confidence: float,
    *,
    audited: int,
    bounds: intervals.Bounds = intervals.clopper_pearson,
) -> int | None:
    """Return the number of images of one class with which its rate is decided to be at least `limit`, or below it.

    Args:
        confidence: confidence of the interval of this class alone.
        audited: number of images that did not decide; the result is larger.
        bounds: bounds of a single rate.
    """
    return images_for_smallest(np.array([rate]), limit, confidence, audited=audited, bounds=bounds)


def images_for_gap(
    rates: intervals.Vector,
    limit: float,
    confidence: float,
    *,
    audited: int,
    bounds: intervals.Bounds = intervals.clopper_pearson,
) -> int | None:
    """Return the number of images per class with which the gap of the rates is decided to be at most `limit`, or above it.

    The probability of a decision is simulated, with a fixed seed.

    Args:
        audited: number of images per class that did not decide; the result is larger.
        bounds: bounds of a single rate.
    """
    draws = max(_FEWEST_DRAWS, min(_DRAWS, _RATES_DRAWN // len(rates)))

    def decides(images: int) -> float:
        correct = np.random.default_rng(0).binomial(images, rates, size=(draws, len(rates)))
        grid = np.unique(np.linspace(0, images, _GRID).astype(np.int64))
        box = bounds(grid, np.full_like(grid, images), 1 - (1 - confidence) / len(rates))
        low, high = intervals.gap_extremes(*(np.interp(correct, grid, one) for one in box))
        return float(((high <= limit) | (low > limit)).mean())

    return _find_fewest(decides, audited)


def critical_counts(
    images: int, limit: float, confidence: float, bounds: intervals.Bounds = intervals.clopper_pearson
) -> tuple[int, int]:
    """Return the fewest correct images whose lower bound reaches the limit, and the fewest whose upper bound does.

    Both are `images` + 1 where no count does.
    """

    def find_bounds(correct: int) -> tuple[intervals.Vector, intervals.Vector]:
        return bounds(np.array(correct), np.array(images), confidence)

    counts = range(images + 1)
    return (
        bisect_left(counts, limit, key=lambda correct: float(find_bounds(correct)[0])),
        bisect_left(counts, limit, key=lambda correct: float(find_bounds(correct)[1])),
    )


def _all_reach(count: int, images: int, rates: intervals.Vector) -> float:
    """Return the probability that every class has at least `count` correct images of `images`."""
    if count <= 0 or count > images:
        return float(count <= 0)
    return float(special.betainc(count, images - count + 1, rates).prod())


def _find_fewest(decides: Callable[[int], float], audited: int) -> int | None:
    """Return a number of images above `audited` with which the probability reaches `PROBABILITY`.

    With one image less the probability is smaller, or that number was audited.
    """
    few, many = audited, audited + 1
    while many > MOST or decides(many) < PROBABILITY:
        if many >= MOST:
            return None
        few, many = many, min(2 * many, MOST)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if decides(middle) >= PROBABILITY else (middle, many)
    return many
