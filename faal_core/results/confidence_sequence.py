"""Compute intervals of a rate that hold at every number of images together, so that an audit may end as soon as they decide.

A Clopper–Pearson interval holds at a number of images that was fixed beforehand. An audit that looks at it after every block of
images, and ends when it decides, errs more often than the interval allows.
"""

import math

import numpy as np
from scipy import special

from faal_core.results.intervals import Counts, Vector

_HALVINGS = 60  # of an interval of length 1 at most: finer than float64 resolves


def sequence_bounds(correct: Counts, images: Counts, confidence: float) -> tuple[Vector, Vector]:
    """Return bounds of each rate that cover it at every number of images together, with at least `confidence` for each rate.

    A rate p is outside of the bounds where the likelihood of the counts, averaged over uniformly distributed rates, is at least
    1 / α times their likelihood under p, with α = 1 − `confidence`. Under the true rate this ratio is a martingale that begins
    at 1, so it ever reaches 1 / α with a probability of at most α.

    The images of a class must come in random order: correct ones are drawn independently with the true rate.

    Source: Robbins 1970, the mixture with a uniform prior; Ville 1939 for the inequality.
    """
    correct, images = np.broadcast_arrays(np.asarray(correct, np.float64), np.asarray(images, np.float64))
    threshold = -math.log(1 - confidence)
    average = special.betaln(correct + 1, images - correct + 1)

    def excludes(rate: Vector) -> np.ndarray:
        return average - special.xlogy(correct, rate) - special.xlog1py(images - correct, -rate) >= threshold

    measured = correct / np.maximum(images, 1)

    def find_bound(outside: Vector) -> Vector:
        """Return the excluded rate next to the interval, from an end of [0, 1] on."""
        outside, inside = outside.copy(), measured.copy()
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            is_outside = excludes(middle)
            outside, inside = np.where(is_outside, middle, outside), np.where(is_outside, inside, middle)
        return outside

    low, high = find_bound(np.zeros_like(measured)), find_bound(np.ones_like(measured))
    return np.where(correct == 0, 0.0, low), np.where(correct == images, 1.0, high)
