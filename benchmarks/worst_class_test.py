"""Test which of two methods has the more robust worst class, from the outcomes of both on the same test images."""

import base64
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faal_core.results.intervals import holm

RESAMPLES = 10_000
Outcomes = NDArray[np.bool_]
"""Whether each of n images stays right under attack, for each of s seeds, `s n`."""


class Difference(NamedTuple):
    """The rate of the worst class of one method minus that of the other, means over the seeds, with a 95 % interval."""

    value: float
    low: float
    high: float
    p_value: float


def compare_worst(labels: NDArray[np.int64], one: Outcomes, other: Outcomes) -> Difference:
    """Compare the worst classes by a bootstrap over seeds, and over the images of each class, both paired.

    The p-value is twice the fraction of resamples whose difference does not have the sign of most. It knows no more seeds than
    it is given: three show little of how far seeds differ.

    Args:
        labels: classes of the n images; every class has one.
        one, other: outcomes of the methods, with the same seeds.
    """
    rng, (seeds, _) = np.random.default_rng(0), one.shape
    drawn_seeds = rng.integers(seeds, size=(RESAMPLES, seeds))
    worst = np.ones((2, RESAMPLES, seeds))
    given = np.ones((2, seeds))
    for label in range(int(labels.max()) + 1):
        # Images with the same outcomes of both methods with all seeds are alike, so only their numbers are drawn.
        rows = np.concatenate([one[:, labels == label], other[:, labels == label]])
        patterns, counts = np.unique(rows, axis=1, return_counts=True)
        images = int(counts.sum())
        drawn = rng.multinomial(images, counts / images, size=RESAMPLES)
        rates = (drawn @ patterns.T.astype(float) / images).reshape(RESAMPLES, 2, seeds).swapaxes(0, 1)
        worst = np.minimum(worst, rates)
        given = np.minimum(given, (patterns @ counts / images).reshape(2, seeds))
    differences = np.take_along_axis(worst[0] - worst[1], drawn_seeds, axis=1).mean(1)
    below, above = ((differences <= 0).sum() + 1, (differences >= 0).sum() + 1)
    low, high = np.quantile(differences, [0.025, 0.975])
    p_value = min(2 * min(below, above) / (RESAMPLES + 1), 1.0)
    return Difference(float((given[0] - given[1]).mean()), float(low), float(high), float(p_value))


def adjust(p_values: dict[str, float]) -> dict[str, float]:
    """Return the p-values of several methods, adjusted by Holm's method."""
    return dict(zip(p_values, (float(p) for p in holm(np.array(list(p_values.values())))), strict=True))


def pack(flags: NDArray[np.bool_]) -> str:
    """Return flags as text, an eighth of a byte each."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpack(text: str, images: int) -> NDArray[np.bool_]:
    """Return the flags of that many images."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
