"""Test intervals and tests against published values, closed forms and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from faal_core.results import intervals


def test_clopper_pearson_closed_forms() -> None:
    """The bounds for none or all of n correct solve (1 − p)^n = α/2; other bounds equal scipy's exact interval."""
    low, high = intervals.clopper_pearson(np.array([0, 20, 7]), np.array([20, 20, 20]), 0.95)
    edge = 1 - 0.025 ** (1 / 20)
    np.testing.assert_allclose(low[:2], [0, 1 - edge])
    np.testing.assert_allclose(high[:2], [edge, 1])
    expected = stats.binomtest(7, 20).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose([low[2], high[2]], [expected.low, expected.high])


def test_worst_class_is_covered() -> None:
    """The interval of the worst class contains its true rate in at least the stated fraction of samples."""
    generator = np.random.default_rng(1)
    rates, images = np.array([0.5] * 8 + [0.4, 0.38]), np.full(10, 100)
    hits = 0
    for _ in range(1000):
        low, high = intervals.simultaneous_bounds(generator.binomial(images, rates), images, 0.9)
        lower, upper = intervals.worst_bounds(low, high)
        hits += lower <= rates.min() <= upper
    assert hits >= 900


def test_gap_is_covered() -> None:
    """The interval of the gap contains the true gap in at least the stated fraction of samples."""
    generator = np.random.default_rng(2)
    rates, images = np.linspace(0.3, 0.8, 10), np.full(10, 200)
    truth = rates.mean() - rates.min()
    hits = 0
    for _ in range(1000):
        low, high = intervals.gap_bounds(*intervals.simultaneous_bounds(generator.binomial(images, rates), images, 0.9))
        hits += low <= truth <= high
    assert hits >= 900


def test_gap_bounds_are_the_extremes_of_the_box() -> None:
    """No rates within the simultaneous bounds have a gap outside the interval, and both ends are reached."""
    low, high = np.array([0.2, 0.5, 0.6]), np.array([0.45, 0.7, 0.65])
    lower, upper = intervals.gap_bounds(low, high)
    samples = np.random.default_rng(0).uniform(low, high, size=(50_000, 3))
    gaps = samples.mean(axis=1) - samples.min(axis=1)
    assert lower <= gaps.min() <= lower + 0.02
    assert upper - 0.02 <= gaps.max() <= upper


@pytest.mark.parametrize(("classes", "images", "expected"), [(10, 1000, 0.024), (100, 100, 0.125)])
def test_gap_by_chance_of_equal_classes(classes: int, images: int, expected: float) -> None:
    """The gap by chance of equal classes at 50 % is that of normal order statistics: 1.54 σ for ten, 2.51 σ for a hundred."""
    correct = np.full(classes, images // 2)
    medium = intervals.gap_by_chance(correct, np.full(classes, images), 0.5)
    assert medium == pytest.approx(expected, abs=1 / images)  # a rate moves in steps of one image


def test_gap_by_chance_keeps_its_error_rate() -> None:
    """Equal classes exceed the 90 % bound in at most about one sample of ten."""
    generator = np.random.default_rng(3)
    images = np.full(10, 100)
    errors = 0
    for _ in range(150):
        correct = generator.binomial(images, 0.6)
        rates = correct / images
        errors += rates.mean() - rates.min() > intervals.gap_by_chance(correct, images, 0.9)
    assert errors <= 25  # P(more | at most 10 %) < 0.5 %


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """The p-value equals scipy's exact binomial test on the discordant images, and is 1 without any."""
    p_values = intervals.mcnemar(np.array([9, 0, 4, 0]), np.array([1, 6, 4, 0]))
    expected = [stats.binomtest(9, 10).pvalue, stats.binomtest(0, 6).pvalue, 1, 1]
    np.testing.assert_allclose(p_values, expected)


def test_holm_worked_example() -> None:
    """Holm's correction of 0.01, 0.04, 0.03, 0.005 is 0.03, 0.06, 0.06, 0.02, as by hand."""
    p_adjusted = intervals.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(p_adjusted, [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("classes", "confidence"), [(1, 0.95), (2, 0.95), (10, 0.95), (43, 0.99), (100, 0.9), (1, 0.5)]
)
def test_the_least_provable_loss_is_significant_and_one_image_less_is_not(classes: int, confidence: float) -> None:
    """The least provable loss is significant by McNemar and Holm, and one image less is not."""
    least = intervals.least_provable_loss(classes, confidence)
    for loss, significant in ((least, True), (least - 1, False)):
        losses = np.array([loss] + [0] * (classes - 1))
        p_adjusted = intervals.holm(intervals.mcnemar(np.zeros_like(losses), losses))
        assert (p_adjusted[0] <= 1 - confidence) == significant
    assert intervals.least_provable_loss(10, 0.95) == 9  # 10 · 2 / 2⁹ = 0.039 ≤ 0.05 < 0.078 = 10 · 2 / 2⁸


def test_mean_change_bounds_match_the_normal_limit() -> None:
    """With many images the bootstrap's bounds are those of the normal approximation of the paired difference."""
    gains, losses, images = np.array([300, 100]), np.array([100, 50]), np.array([2000, 2000])
    low, high = intervals.mean_change_bounds(gains, losses, images, 0.95)
    mean = (gains - losses) / images
    variance = ((gains + losses) / images - mean**2) / images
    half = 1.96 * np.sqrt(variance.sum()) / 2
    centre = mean.mean()
    np.testing.assert_allclose([low, high], [centre - half, centre + half], atol=6e-4)
