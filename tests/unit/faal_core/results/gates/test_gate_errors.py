"""Simulate audits, and count the false conclusions of gates."""

from collections.abc import Sequence

import numpy as np
import pytest

from faal_core.results.gates import images_to_decide
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.paired_falls import fall_p_values
from faal_core.results.intervals import holm
from faal_core.specs import Policy
from tests.gate_reports import allowed_failures, make_pair, make_report

TRIALS, ALPHA = 1000, 0.05
CELLS = 4  # both right, lost, gained, both wrong


@pytest.fixture(autouse=True)
def _plan_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the search for the number of images, which no test here is about."""
    monkeypatch.setattr(images_to_decide, "_find_fewest", lambda decides, audited: None)


def draw_cells(
    generator: np.random.Generator, images: int, rates: Sequence[float], lost: Sequence[float], gained: Sequence[float]
) -> np.ndarray:
    """Return trials × classes × cells: pairs of audits whose baseline has those rates, and loses and gains those fractions."""
    right, lost, gained = np.asarray(rates) - lost, np.asarray(lost), np.asarray(gained)
    probabilities = np.stack([right, lost, gained, 1 - right - lost - gained], axis=-1)
    return generator.multinomial(images, probabilities, size=(TRIALS, len(rates)))


@pytest.mark.parametrize(
    ("rates", "changes", "images"),
    [
        ((0.5,) * 10, 0.1, 100),
        ((0.5, 0.98, 0.02), 0.02, 300),
        ((0.995,) * 20, 0.004, 50),
        ((0.004,) * 20, 0.004, 50),
        (tuple(np.linspace(0.2, 0.9, 100)), 0.05, 40),
        ((0.6, 0.7), 0.2, 1000),
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_equal_models_rarely_fail(rates: tuple[float, ...], changes: float, images: int, tolerance: float) -> None:
    """In at most α of 1,000 pairs of equal models, clean and robust, any fall is called significant."""
    generator = np.random.default_rng(3)
    half = np.full(len(rates), changes / 2)
    cells = np.concatenate([draw_cells(generator, images, rates, half, half) for _ in range(2)], axis=1)
    classes = cells.reshape(TRIALS, 2, len(rates), CELLS)
    counts = np.concatenate([classes.sum(axis=2, keepdims=True), classes], axis=2).reshape(TRIALS, -1, CELLS)
    p_values = fall_p_values(counts[..., 2], counts[..., 1], counts.sum(axis=-1), tolerance)
    failures = sum(bool((holm(row) <= ALPHA).any()) for row in p_values)
    assert failures <= allowed_failures(ALPHA, TRIALS)


def test_the_gate_passes_noise_and_finds_planted_falls() -> None:
    """The whole gate fails at most α of equal pairs, and at least 80 % where one class of ten falls by 6 points.

    The tolerance is 1 point, so the fall is 5 points beyond it. 10 % of the class's 500 images change.
    """
    generator = np.random.default_rng(4)
    policy, rates = Policy(baseline={"tolerance": 0.01}), np.full(10, 0.5)
    lost = np.full(10, 0.05)
    equal = draw_cells(generator, 200, rates, lost, lost)
    failures = sum(judge_audit(policy, *make_pair(cells)).status == "fail" for cells in equal)
    assert failures <= allowed_failures(ALPHA, TRIALS)
    planted_lost, planted_gained = lost.copy(), lost.copy()
    planted_lost[3], planted_gained[3] = 0.08, 0.02
    planted = draw_cells(generator, 500, rates, planted_lost, planted_gained)[:400]
    failed = [
        {(one.name, one.subject) for one in judge_audit(policy, *make_pair(cells)).requirements if one.status == "fail"}
        for cells in planted
    ]
    assert sum(("baseline.robust.classes", "class 3") in one for one in failed) >= 400 - allowed_failures(0.2, 400)
    others = [{subject for _, subject in one} - {None, "class 3"} for one in failed]
    assert sum(map(bool, others)) <= allowed_failures(ALPHA, 400)


@pytest.mark.parametrize("classes", [1, 3, 20])
@pytest.mark.parametrize("limit", [0.02, 0.3, 0.97])
def test_a_worst_class_is_rarely_judged_wrongly(classes: int, limit: float) -> None:
    """With all classes at the limit no more than α of the audits fail, and just below it no more than α pass."""
    generator = np.random.default_rng(6)
    images = np.full(classes, 150)
    for rate, wrong in ((limit, "fail"), (limit - 1e-6, "pass")):
        draws = generator.binomial(images, rate, size=(TRIALS, classes))
        statuses = [judge_audit(Policy(min_worst=limit), make_report(row, images)).status for row in draws]
        assert statuses.count(wrong) <= allowed_failures(ALPHA, TRIALS)


def test_several_requirements_are_rarely_judged_wrongly_together() -> None:
    """Where each requirement is just not met, at most α of the audits pass any of them, at the policy's own confidence."""
    generator = np.random.default_rng(7)
    rates, images = np.array([0.5, 0.6, 0.7, 0.8]), np.full(4, 200)
    limits = {
        "min_worst": 0.5001,
        "min_robust": 0.6501,
        "min_clean": 0.8501,
        "max_gap": 0.1499,
        "min_class": {"class 2": 0.7001},
    }
    for confidence in (0.95, 0.8):
        policy = Policy(**limits, confidence=confidence)
        wrong = 0
        for _ in range(TRIALS):
            report = make_report(generator.binomial(images, rates), images, generator.binomial(images, rates + 0.2))
            wrong += any(one.status == "pass" for one in judge_audit(policy, report).requirements)
        assert wrong <= allowed_failures(1 - confidence, TRIALS)
