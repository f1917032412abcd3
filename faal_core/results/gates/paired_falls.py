"""Test whether rates fell by more than a tolerance between two audits of the same images, and bound the falls.

An image is lost if it is classified correctly in the first audit alone, and gained if it is in the second alone. A fall is the
probability of a loss minus that of a gain.
"""

import numpy as np
from scipy import special

from faal_core.results.intervals import Counts, Vector

_HALVINGS = 40  # of an interval of width 2, so bounds are exact to 1e-12


def fall_p_values(gained: Counts, lost: Counts, images: Counts, tolerance: float) -> Vector:
    """Return one-sided p-values of the hypothesis that a rate fell by at most `tolerance`.

    A value is the larger one of two tests. McNemar's is exact, so equal rates are never called different more often than
    stated. Tango's score test takes the tolerance into account, with Laud's correction for the skewness of few losses.

    Source: McNemar 1947; Tango 1998, Statistics in Medicine 17, 891–908; Laud 2017, Pharmaceutical Statistics 16, 334–348.
    """
    exact = special.bdtr(gained, gained + lost, 0.5)
    fall = np.asarray(tolerance)
    score = _score(gained, lost, images, fall)
    skewness = _skewness(_likeliest_gain(gained, lost, images, fall), images, fall) / 6
    corrected = 2 * (skewness + score) / (1 + np.sqrt(np.maximum(0, 1 + 4 * skewness * (skewness + score))))
    return np.maximum(exact, special.ndtr(-corrected))


def fall_bounds(gained: Counts, lost: Counts, images: Counts, confidence: float) -> tuple[Vector, Vector]:
    """Return bounds of each fall that hold for all of them together with `confidence`: Tango's score intervals at level α/m.

    Source: Tango 1998, Statistics in Medicine 17, 891–908.
    """
    quantile = -special.ndtri((1 - confidence) / 2 / len(images))
    return _solve_score(gained, lost, images, quantile), _solve_score(gained, lost, images, -quantile)


def _solve_score(gained: Counts, lost: Counts, images: Counts, quantile: float) -> Vector:
    """Return the fall whose score has that value, by bisection: the score decreases in the fall."""
    low, high = np.full(len(images), -1.0), np.full(len(images), 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _score(gained, lost, images, middle) > quantile
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def _score(gained: Counts, lost: Counts, images: Counts, fall: Vector) -> Vector:
    """Return Tango's score of that fall: its distance from the measured one, in standard errors under the fall."""
    gain = _likeliest_gain(gained, lost, images, fall)
    variance = images * np.maximum(0, 2 * gain + fall * (1 - fall))
    distance = lost - gained - images * fall
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / np.sqrt(variance))


def _likeliest_gain(gained: Counts, lost: Counts, images: Counts, fall: Vector) -> Vector:
    """Return the likeliest probability of a gain, given the fall: the larger root of a quadratic equation."""
    linear = -lost - gained + (2 * images - lost + gained) * fall
    return (np.sqrt(np.maximum(0, linear**2 + 8 * images * gained * fall * (1 - fall))) - linear) / (4 * images)


def _skewness(gain: Vector, images: Counts, fall: Vector) -> Vector:
    """Return the skewness of losses minus gains; 0 where no image changes."""
    square = 2 * gain + fall
    variance = np.maximum(0, square - fall**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = (fall - 3 * fall * square + 2 * fall**3) / (variance**1.5 * np.sqrt(images))
    return np.where(variance > 0, skewness, 0.0)
