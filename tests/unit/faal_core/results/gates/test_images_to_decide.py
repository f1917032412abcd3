"""Test the number of images that decides a requirement against closed forms and simulated decisions."""

import numpy as np
import pytest
from scipy import stats

from faal_core.results import intervals
from faal_core.results.gates import images_to_decide
from faal_core.results.gates.judging import judge_audit
from faal_core.specs import Policy
from tests.gate_reports import make_report

TRIALS = 1000
STANDARD_ERROR = np.sqrt(0.8 * 0.2 / TRIALS)


@pytest.mark.parametrize(
    ("images", "limit", "confidence"),
    [(1, 0.5, 0.95), (40, 0.25, 0.995), (1000, 0.99, 0.9), (300, 0, 0.95), (300, 1, 0.95)],
)
def test_critical_counts_are_those_of_the_intervals(images: int, limit: float, confidence: float) -> None:
    """From these numbers of correct images on, the bounds reach the limit."""
    low, high = intervals.clopper_pearson(np.arange(images + 1), np.full(images + 1, images), confidence)
    reach_low, reach_high = images_to_decide.critical_counts(images, limit, confidence)
    assert ((low >= limit) == (np.arange(images + 1) >= reach_low)).all()
    assert ((high >= limit) == (np.arange(images + 1) >= reach_high)).all()


@pytest.mark.parametrize(("rate", "limit"), [(0.3, 0.25), (0.2, 0.25), (0.97, 0.95), (0.01, 0.03)])
def test_one_rate_is_decided_from_the_number_on(rate: float, limit: float) -> None:
    """The probability of a decision, summed over all counts, is 0.8 or more with the number and less with one image less."""

    def probability(images: int) -> float:
        counts = np.arange(images + 1)
        low, high = intervals.clopper_pearson(counts, np.full(images + 1, images), 0.95)
        return float(stats.binom.pmf(counts, images, rate)[(low >= limit) | (high < limit)].sum())

    images = images_to_decide.images_for_one(rate, limit, 0.95, audited=0)
    assert images is not None
    assert probability(images) >= 0.8 > probability(images - 1)


def test_expected_counts_of_the_method() -> None:
    """With 30 % correct and a limit of 25 %, 500 images of each of ten classes do not decide, and 1,000 images do."""
    policy = Policy(min_worst=0.25)
    for images, status in ((500, "undecided"), (1000, "pass")):
        report = make_report([3 * images // 10] * 10, [images] * 10)
        assert judge_audit(policy, report).status == status


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ({"min_worst": 0.25}, (0.3,) * 10),
        ({"min_worst": 0.5}, (0.45, 0.9, 0.8)),
        ({"min_worst": 0.9}, tuple(np.linspace(0.93, 0.99, 20))),
        ({"min_worst": 0.03}, (0.01, 0.5)),
        ({"max_gap": 0.1}, (0.5, 0.7, 0.9)),
        ({"max_gap": 0.3}, (0.5, 0.7, 0.9)),
        ({"max_gap": 0.05}, (0.97, 0.99, 0.98, 0.96)),
        ({"min_robust": 0.6}, (0.63,)),
        ({"min_class": {"class 1": 0.6}}, (0.1, 0.57, 0.9, 0.8, 0.7)),
    ],
)
def test_the_number_decides_as_often_as_stated(policy: dict, rates: tuple[float, ...]) -> None:
    """With the number of images that an undecided gate asks for, it decides in at least 80 % of 1,000 simulations."""
    generator = np.random.default_rng(5)
    few = np.full(len(rates), 60)
    first = judge_audit(Policy(**policy), make_report(np.round(few * rates).astype(int), few)).requirements[0]
    rates = np.round(few * rates) / few  # the measured rates are taken for the true ones
    assert first.status == "undecided"
    assert first.images_to_decide is not None
    images = np.full(len(rates), first.images_to_decide)
    decided = 0
    for _ in range(TRIALS):
        report = make_report(generator.binomial(images, rates), images)
        decided += judge_audit_quickly(policy, report)
    assert decided >= TRIALS * (0.8 - 3 * STANDARD_ERROR)


def judge_audit_quickly(policy: dict, report) -> bool:
    """Return whether the gate decides, without the number of images that would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images_to_decide, "_find_fewest", lambda decides, audited: None)
        return judge_audit(Policy(**policy), report).status != "undecided"


def test_no_number_decides_a_rate_at_its_limit() -> None:
    """A rate that equals its limit, or is too close to it, gives no number, and the sentence says why."""
    equal, close = (
        judge_audit(Policy(min_robust=limit), make_report([50], [100])).requirements[0] for limit in (0.5, 0.50001)
    )
    assert (equal.status, equal.images_to_decide) == ("undecided", None)
    assert "equals the limit" in equal.sentence
    assert close.images_to_decide is None
    assert "more than 10,000,000 images in total are needed at this confidence" in close.sentence


@pytest.mark.parametrize("audited", [40, 500])
def test_the_number_is_larger_than_the_audited_one(audited: int) -> None:
    """Many classes may decide by chance with fewer images than were audited; an undecided gate asks for more."""
    undecided = 0
    for correct in range(audited // 4, audited // 2):
        report = make_report([correct] * 100, [audited] * 100)
        for policy in ({"min_worst": 0.35}, {"min_class": {"class 3": 0.35}}, {"min_robust": 0.35}):
            result = judge_audit(Policy(**policy), report).requirements[0]
            if result.status == "undecided" and result.images_to_decide is not None:
                undecided += 1
                assert result.images_to_decide > (100 * audited if "min_robust" in policy else audited)
    assert undecided > 5


def test_the_number_for_a_gap_is_larger_than_the_audited_one() -> None:
    """Noise of 300 rates alone often exceeds the limit with 304 images per class; 400 have not decided."""
    counts = np.linspace(120, 320, 300).astype(int)
    result = judge_audit(Policy(max_gap=0.1), make_report(counts, np.full(300, 400))).requirements[0]
    assert result.status == "undecided"
    assert result.images_to_decide > 400


def test_a_decided_class_does_not_set_the_number() -> None:
    """The large class meets the limit by its own interval, so the number is that of the small one."""
    report = make_report([20, 90_000], [60, 100_000])
    result = judge_audit(Policy(min_worst=0.25), report).requirements[0]
    assert result.status == "undecided"
    assert 60 < result.images_to_decide < 2_000
