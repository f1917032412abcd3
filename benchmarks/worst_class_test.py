"""Test which of two methods has the more robust worst class, from the outcomes of both on the same test images."""

import base64
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from faal_core.results.intervals import holm

Outcomes = NDArray[np.bool_]
"""Whether each of n images stays right under attack, for each of s seeds, `s n`."""


class Difference(NamedTuple):
    """The rate of the worst class of one method minus that of the other, means over the seeds.

    Args:
        low, high: bounds of its 95 % confidence interval.
        p_value: two-sided.
    """

    value: float
    low: float
    high: float
    p_value: float


def compare_worst(labels: NDArray[np.int64], one: Outcomes, other: Outcomes, weakest: int | None = None) -> Difference:
    """Compare the worst classes of two methods.

    The worst class of the first is the more robust one if and only if some class of the other is less robust than every class of
    the first. For each class of the other, this is tested against all classes of the first, and the largest p-value counts
    (intersection–union). The smallest of these p-values, times the number of classes (Bonferroni), is that of one direction;
    twice the smaller one of both directions is the result. A resampled minimum would be biased where several classes are nearly
    the worst. With a class that was named in advance, it alone is tested, so nothing is multiplied. The interval has all
    differences that the same test, at 5 %, does not reject. Both are about other test images, and the same trained networks: two
    or three seeds are too few to say what others would give.

    Args:
        labels: classes of the n images.
        one, other: outcomes of the methods, with the same seeds.
        weakest: class that is expected to be the worst, from other images than these.
    Raises: ValueError where a class has fewer than two images.
    """
    classes = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    if min(map(len, classes)) < 2:
        raise ValueError("A class has fewer than two test images.")
    weak_classes = classes if weakest is None else [classes[weakest]]
    above, below = _Direction(classes, weak_classes, one, other), _Direction(classes, weak_classes, other, one)
    worst = [min(float(outcomes[:, rows].mean()) for rows in classes) for outcomes in (one, other)]
    p_value = 2 * min(above.p_value(0), below.p_value(0))
    return Difference(worst[0] - worst[1], above.low(), -below.low(), min(p_value, 1.0))


class _Direction:
    """One direction of the comparison: t-tests that the worst class of `one` is more robust than weak classes of `other`."""

    def __init__(
        self,
        classes: list[NDArray[np.int64]],
        weak_classes: list[NDArray[np.int64]],
        one: Outcomes,
        other: Outcomes,
    ) -> None:
        pairs = [[_difference(one, rows, other, weak) for rows in classes] for weak in weak_classes]
        self._values, variances, self._degrees = np.moveaxis(np.array(pairs), -1, 0)
        self._errors = np.sqrt(variances)

    def p_value(self, margin: float) -> float:
        """Return the one-sided p-value of the hypothesis that `one` exceeds `other` by no more than `margin`."""
        p_values = t.sf((self._values - margin) / self._errors, self._degrees)
        return min(float(p_values.max(1).min()) * len(p_values), 1.0)

    def low(self) -> float:
        """Return the largest margin, to 1e-6, beyond which the rates differ with a p-value below 2.5 %."""
        low, high = -1.0, 1.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if self.p_value(middle) < 0.025 else (low, middle)
        return low


def _difference(
    one: Outcomes, rows: NDArray[np.int64], other: Outcomes, weak: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return by how much the rate of `one` on `rows` exceeds that of `other` on `weak`, its variance and degrees of freedom.

    The same rows are compared pair by pair. To the images of each sample one more of either outcome is added, or one more pair of
    either kind, as Agresti and Min (2005) do: where few images change, the variance would be too small.

    Source: Welch 1947 for the degrees of freedom of a sum.
    """
    if rows is weak:
        parts = [_variance(one[:, rows].astype(float) - other[:, weak], 2)]
    else:
        parts = [_variance(one[:, rows].astype(float), 1), _variance(other[:, weak].astype(float), 1)]
    variance = sum(part for part, _ in parts)
    degrees = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(one[:, rows].mean() - other[:, weak].mean()), variance, degrees


def _variance(sample: NDArray[np.float64], added: float) -> tuple[float, int]:
    """Return the variance of the mean over n images, each of them a mean over s seeds, `s n`, and its degrees of freedom.

    Args:
        added: sum of squares of the images that are added.
    """
    images = sample.shape[1]
    return float(sample.mean(0).var(ddof=1)) / images + added / images**2, images - 1


def adjust(p_values: dict[str, float]) -> dict[str, float]:
    """Return the p-values of several methods, adjusted by Holm's method."""
    return dict(zip(p_values, (float(p) for p in holm(np.array(list(p_values.values())))), strict=True))


def pack(flags: NDArray[np.bool_]) -> str:
    """Return flags as text, an eighth of a byte each."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpack(text: str, images: int) -> NDArray[np.bool_]:
    """Return the flags of that many images."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
