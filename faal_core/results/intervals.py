"""Compute confidence intervals for per-class rates, the gap that chance alone shows, and paired tests, in float64.

The number of correct images of a class is taken as binomial: images are drawn independently from the class.

Sources: Clopper and Pearson 1934; Bonferroni and Holm 1979 for several classes at once; McNemar 1947, in its exact form.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]
Bounds = Callable[[Counts, Counts, float], tuple[Vector, Vector]]
"""Bounds of each rate on its own, from the counts of correct and of all images, and the confidence."""

_DRAWS = 20_000  # random draws; a 95 % quantile of a gap is then exact to about 0.1 points
_DRAWS_AT_ONCE = 1_000  # of 10,000 classes these take 160 MB


def clopper_pearson(correct: Counts, images: Counts, confidence: float) -> tuple[Vector, Vector]:
    """Return lower and upper bounds of each rate, each with at least `confidence` on its own (exact, never too narrow)."""
    alpha = 1 - confidence
    with np.errstate(invalid="ignore"):
        low = np.where(correct == 0, 0.0, special.betaincinv(correct, images - correct + 1, alpha / 2))
        high = np.where(correct == images, 1.0, special.betaincinv(correct + 1, images - correct, 1 - alpha / 2))
    return low, high


def simultaneous_bounds(
    correct: Counts, images: Counts, confidence: float, bounds: Bounds = clopper_pearson
) -> tuple[Vector, Vector]:
    """Return bounds that hold for all classes together with at least `confidence`: those of each class at level α/C."""
    return bounds(correct, images, 1 - (1 - confidence) / len(correct))


def worst_bounds(low: Vector, high: Vector) -> tuple[float, float]:
    """Return bounds of the smallest true rate, given bounds that hold for all classes together."""
    return float(low.min()), float(high.min())


def mean_bounds(low: Vector, high: Vector, weights: Counts) -> tuple[float, float]:
    """Return bounds of the weighted mean of the true rates, given bounds that hold for all classes together."""
    return float(np.average(low, weights=weights)), min(1.0, float(np.average(high, weights=weights)))


def gap_bounds(low: Vector, high: Vector) -> tuple[float, float]:
    """Return bounds of (mean − smallest) true class rate: its extremes over the box of simultaneous bounds."""
    least, greatest = gap_extremes(low, high)
    return float(least), float(greatest)


def gap_extremes(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Return the smallest and the largest gap of each box of bounds; the last axis has the classes.

    Smallest: one class at the lowest upper bound, no class below it. Largest: one class at its lower bound, the others at
    their upper bounds.
    """
    floor = high.min(axis=-1, keepdims=True)
    least = np.maximum(low, floor).mean(axis=-1) - floor[..., 0]
    greatest = (high.mean(axis=-1, keepdims=True) + (low - high) / low.shape[-1] - low).max(axis=-1)
    return np.maximum(0.0, least), greatest


def gap_by_chance(correct: Counts, images: Counts, confidence: float) -> float:
    """Return the gap (mean − smallest class rate) that classes with one true rate stay below with `confidence`.

    Given the total number of correct images, equal classes share them hypergeometrically, whatever the true rate. This is
    an exact permutation test, approximated by 20,000 draws with a fixed seed.
    """
    generator = np.random.default_rng(0)
    gaps = np.empty(_DRAWS)
    for start in range(0, _DRAWS, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, _DRAWS - start)
        rates = (
            generator.multivariate_hypergeometric(images, int(correct.sum()), size=size, method="marginals") / images
        )
        gaps[start : start + size] = rates.mean(axis=1) - rates.min(axis=1)
    return float(np.quantile(gaps, confidence, method="higher"))


def mcnemar(gained: Counts, lost: Counts) -> Vector:
    """Return two-sided exact p-values of the hypothesis that gains and losses are equally likely.

    Source: McNemar 1947, by the binomial distribution of the discordant images.
    """
    return np.minimum(1.0, 2 * special.bdtr(np.minimum(gained, lost), gained + lost, 0.5))


def fisher(counts: Counts) -> Vector:
    """Return two-sided p-values of Fisher's exact test that both samples of a class have one rate.

    Args:
        counts: one row per class: correctly classified and all images of the first sample, then of the second.
    """
    from scipy.stats import fisher_exact  # takes a second to import

    return np.array([fisher_exact([[a, n - a], [b, m - b]]).pvalue for a, n, b, m in counts.tolist()])


def difference_bounds(counts: Counts, confidence: float) -> tuple[float, float]:
    """Return bounds of the second rate minus the first, of independent samples; `counts` is one row as in `fisher`.

    Source: Newcombe 1998, method 10: the differences of the rates from their Wilson bounds, added as vectors. The
    bounds are approximate.
    """
    correct, images, other_correct, other_images = counts.tolist()
    rate, other_rate = correct / images, other_correct / other_images
    low, high = _wilson(rate, images, confidence)
    other_low, other_high = _wilson(other_rate, other_images, confidence)
    change = other_rate - rate
    return (
        change - math.hypot(other_rate - other_low, high - rate),
        change + math.hypot(other_high - other_rate, rate - low),
    )


class StratifiedChange(NamedTuple):
    """Holds the weighted mean of the changes of all classes, its bounds, and the p-value that no class changed."""

    value: float
    low: float
    high: float
    p_value: float


def stratified_change(counts: Counts, confidence: float) -> StratifiedChange:
    """Return the change of the mean rate between independent samples whose classes may have other shares of the images.

    The classes have Mantel–Haenszel weights, so a change of the shares alone is no change. `counts` is as in `fisher`. The bounds
    and the p-value are approximate.

    Source: Cochran 1954, Mantel and Haenszel 1959, with the continuity correction; Zou and Donner 2008 for the bounds of a
        sum, from those of `difference_bounds`.
    """
    correct, images, other_correct, other_images = counts.T.astype(np.float64)
    total, right = images + other_images, correct + other_correct
    weights = images * other_images / total
    weights /= weights.sum()
    changes = other_correct / other_images - correct / images
    bounds = np.array([difference_bounds(row, confidence) for row in counts])
    value = float(weights @ changes)
    below, above = (math.sqrt(float((weights**2) @ (changes - side) ** 2)) for side in bounds.T)
    excess = (other_correct - right * other_images / total).sum()
    variance = (images * other_images * right * (total - right) / (total**2 * np.maximum(total - 1, 1))).sum()
    z = max(0.0, abs(excess) - 0.5) / math.sqrt(variance) if variance > 0 else 0.0
    return StratifiedChange(value, value - below, value + above, float(2 * special.ndtr(-z)))


def _wilson(rate: float, images: int, confidence: float) -> tuple[float, float]:
    """Return the Wilson score bounds of a rate."""
    z = float(special.ndtri((1 + confidence) / 2))
    centre = (rate + z * z / (2 * images)) / (1 + z * z / images)
    reach = z / (1 + z * z / images) * math.sqrt(rate * (1 - rate) / images + (z / (2 * images)) ** 2)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def holm(p_values: Vector) -> Vector:
    """Return adjusted p-values: rejecting those below α makes any false rejection with probability at most α.

    Source: Holm 1979.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = (len(p_values) - np.arange(len(p_values))) * p_values[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def least_provable_loss(classes: int, confidence: float) -> int:
    """Return how many images a class must lose, gaining none, to be significantly worse whatever the other classes do.

    It is the smallest k with C · 2 · 0.5^k ≤ α: McNemar's p-value of k lost images, times Holm's largest factor.
    """
    return math.ceil(1 + math.log2(classes / (1 - confidence)))


def mean_change_bounds(gained: Counts, lost: Counts, images: Counts, confidence: float) -> tuple[float, float]:
    """Return percentile bounds of the change of the mean rate over all images, by a paired bootstrap within each class.

    Resampling a class's images with replacement makes (gained, lost, same) multinomial. Uses 20,000 draws with a fixed
    seed.
    """
    generator = np.random.default_rng(0)
    change = np.zeros(_DRAWS)
    for up, down, n in zip(gained, lost, images, strict=True):
        draws = generator.multinomial(n, [up / n, down / n, (n - up - down) / n], size=_DRAWS)
        change += draws[:, 0] - draws[:, 1]
    low, high = np.quantile(change / images.sum(), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
