"""Test intervals that hold at every number of images together: closed forms, simulated coverage, and monotone bounds."""

import numpy as np
import pytest

from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.intervals import clopper_pearson
from tests.gate_reports import allowed_failures

ALPHA, TRIALS, IMAGES = 0.1, 1000, 300


@pytest.mark.parametrize("images", [1, 30, 5000])
def test_closed_form_without_a_correct_image(images: int) -> None:
    """With no correct image of n, the average likelihood is 1 / (n + 1), so the upper bound is 1 − (α / (n + 1))^(1 / n)."""
    low, high = sequence_bounds(np.array([0, images]), np.array([images, images]), 1 - ALPHA)
    bound = 1 - (ALPHA / (images + 1)) ** (1 / images)
    np.testing.assert_allclose(low, [0, 1 - bound], atol=1e-12)
    np.testing.assert_allclose(high, [bound, 1], atol=1e-12)


def test_no_image_excludes_nothing() -> None:
    """Without an image, every rate is within the bounds."""
    low, high = sequence_bounds(np.array([0]), np.array([0]), 0.95)
    assert (low[0], high[0]) == (0, 1)


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.9])
def test_the_true_rate_is_covered_at_every_number_of_images(rate: float) -> None:
    """At most α of the audits ever exclude the true rate, looking after each image; of ordinary intervals, more do."""
    generator = np.random.default_rng(5)
    correct = (generator.random((TRIALS, IMAGES)) < rate).cumsum(axis=1)
    counts = np.arange(IMAGES + 1)
    excluded = np.zeros((2, TRIALS), bool)
    for images in range(1, IMAGES + 1):
        for kind, bounds in enumerate((sequence_bounds, clopper_pearson)):
            low, high = bounds(counts[: images + 1], np.full(images + 1, images), 1 - ALPHA)
            excluded[kind] |= ((rate < low) | (rate > high))[correct[:, images - 1]]
    sequence, ordinary = excluded.sum(axis=1)
    assert sequence <= allowed_failures(ALPHA, TRIALS)
    assert ordinary > allowed_failures(ALPHA, TRIALS)


def test_bounds_rise_with_the_correct_images() -> None:
    """Both bounds rise with the number of correct images and contain the measured rate: a broken image never helps a class."""
    counts = np.arange(201)
    low, high = sequence_bounds(counts, np.full(201, 200), 0.995)
    assert (np.diff([low, high]) >= 0).all()
    assert ((low <= counts / 200) & (counts / 200 <= high)).all()
