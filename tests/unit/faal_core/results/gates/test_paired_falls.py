"""Test paired falls against exact enumeration, likelihoods and textbook cases."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from faal_core.results.gates.paired_falls import fall_bounds, fall_p_values


def likeliest_gain(gained: int, lost: int, images: int, fall: float) -> float:
    """Return the probability of a gain with the largest likelihood, by a numerical search."""

    def minus_log_likelihood(gain: float) -> float:
        loss = gain + fall
        others = special.xlogy(images - lost - gained, 1 - loss - gain)
        return float(-(special.xlogy(lost, loss) + special.xlogy(gained, gain) + others))

    bounds = (max(0.0, -fall) + 1e-12, (1 - fall) / 2 - 1e-12)
    found = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    return float(found.x)


def score_by_likelihood(gained: int, lost: int, images: int, fall: float) -> float:
    """Return Tango's score."""
    variance = images * (2 * likeliest_gain(gained, lost, images, fall) + fall * (1 - fall))
    return float((lost - gained - images * fall) / np.sqrt(variance))


@pytest.mark.parametrize(
    ("gained", "lost", "images"), [(3, 14, 100), (0, 5, 40), (20, 60, 400), (7, 7, 50), (12, 2, 90)]
)
@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.2])
def test_the_p_value_is_that_of_the_corrected_score(gained: int, lost: int, images: int, tolerance: float) -> None:
    """The score is Tango's by the largest likelihood, corrected by the skewness; McNemar's p-value counts where it is larger."""
    (p,) = fall_p_values(np.array([gained]), np.array([lost]), np.array([images]), tolerance)
    score, gain = (one(gained, lost, images, tolerance) for one in (score_by_likelihood, likeliest_gain))
    loss = gain + tolerance
    change = np.array([1, -1, 0])
    probability = np.array([loss, gain, 1 - loss - gain])
    moments = [float((probability * (change - tolerance) ** power).sum()) for power in (2, 3)]
    skewness = moments[1] / moments[0] ** 1.5 / np.sqrt(images)
    corrected = optimize.brentq(
        lambda z: z + skewness / 6 * (z**2 - 1) - score, -2.9 / abs(skewness), 2.9 / abs(skewness)
    )
    exact = stats.binomtest(lost, gained + lost, alternative="greater").pvalue
    assert p == pytest.approx(max(exact, stats.norm.sf(corrected)), abs=1e-5)


def test_bounds_solve_the_score() -> None:
    """At a bound the score is the normal quantile, for falls and rises alike."""
    gained, lost, images = np.array([3, 14, 0]), np.array([14, 3, 5]), np.array([100, 100, 40])
    low, high = fall_bounds(gained, lost, images, 0.95)
    quantile = stats.norm.isf(0.05 / 2 / 3)
    for row in range(3):
        numbers = (int(gained[row]), int(lost[row]), int(images[row]))
        assert score_by_likelihood(*numbers, low[row]) == pytest.approx(quantile, abs=1e-4)
        assert score_by_likelihood(*numbers, high[row]) == pytest.approx(-quantile, abs=1e-4)


def test_published_intervals() -> None:
    """The bounds are the published ones: contact lenses (Tango 1998) at 90 %, and airways (Fagerland et al. 2014) at 95 %."""
    for gained, lost, images, confidence, published in (
        (0, 1, 44, 0.9, (-0.037, 0.096)),
        (1, 7, 21, 0.95, (0.026, 0.517)),
    ):
        low, high = fall_bounds(np.array([gained]), np.array([lost]), np.array([images]), confidence)
        assert (round(float(low[0]), 3), round(float(high[0]), 3)) == published


@pytest.mark.parametrize(("gained", "lost", "expected"), [(0, 0, 1.0), (0, 4, 1 / 16), (5, 0, 1.0), (2, 2, 1 - 5 / 16)])
def test_without_a_tolerance_the_test_is_mcnemars(gained: int, lost: int, expected: float) -> None:
    """At tolerance 0 the p-value is the binomial probability of at least as many losses among the discordant images."""
    (p,) = fall_p_values(np.array([gained]), np.array([lost]), np.array([1000]), 0.0)
    assert p == pytest.approx(expected)


def test_extreme_counts_have_values() -> None:
    """Bounds and p-values are numbers, and bounds contain the measured fall, where all, none or half of the images changed."""
    gained, lost = np.array([0, 0, 30, 15, 0]), np.array([0, 30, 0, 15, 15])
    images = np.full(5, 30)
    low, high = fall_bounds(gained, lost, images, 0.95)
    measured = (lost - gained) / images
    assert (low <= measured + 1e-9).all()
    assert (measured - 1e-9 <= high).all()
    assert ((fall_p_values(gained, lost, images, 0.02) >= 0) & (fall_p_values(gained, lost, images, 0.02) <= 1)).all()


@pytest.mark.parametrize(
    ("images", "tolerance", "changes"),
    [
        (50, 0.02, 0.02),
        (100, 0.02, 0.1),
        (150, 0.05, 0.05),
        (150, 0.01, 0.4),
        (150, 0.02, 0.03),
        (200, 0.05, 0.05),
        (200, 0.05, 0.075),
    ],
)
def test_the_size_at_the_tolerance(images: int, tolerance: float, changes: float) -> None:
    """Where the true fall equals the tolerance, the test rejects with a probability of at most 1.4 α, by enumeration.

    At the small α that Holm's method leaves to each of many hypotheses it is at most α.
    """
    loss, gain = (changes + tolerance) / 2, (changes - tolerance) / 2
    lost, gained = np.meshgrid(np.arange(images + 1), np.arange(images + 1), indexing="ij")
    possible = lost + gained <= images
    lost, gained = lost[possible], gained[possible]
    p = fall_p_values(gained, lost, np.full(len(lost), images), tolerance)
    outcomes = np.stack([lost, gained, images - lost - gained], axis=1)
    probability = stats.multinomial.pmf(outcomes, images, [loss, gain, 1 - loss - gain])
    for alpha, factor in ((0.2, 1.4), (0.05, 1.4), (0.01, 1.25), (0.0023, 1.0), (5e-5, 1.0)):
        assert probability[p <= alpha].sum() <= factor * alpha
