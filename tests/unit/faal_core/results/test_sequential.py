"""Test the decisions of sequential audits: blocks, limits, and the error and cost of simulated gates."""

import numpy as np
import pytest

from benchmarks.sequential_gates import list_models, simulate_audits
from faal_core.errors import InvalidSpec
from faal_core.results.intervals import clopper_pearson
from faal_core.results.sequential import BLOCK, Decisions, draw_blocks
from faal_core.specs import SequentialLimits
from tests.gate_reports import allowed_failures

ALPHA = 0.05


def decide(correct: list[int], images: list[int], limits: SequentialLimits) -> Decisions:
    """Return the decisions about classes a, b, … with those numbers of robust and of audited images."""
    labels = np.repeat(np.arange(len(images)), images)
    decisions = Decisions(labels, tuple("abcdef"[: len(images)]), limits, 0.95)
    robust = np.concatenate([np.arange(n) < k for k, n in zip(correct, images, strict=True)])
    decisions.add(np.arange(len(labels)), robust)
    return decisions


def test_blocks_have_each_image_once_in_random_order() -> None:
    """Each block has up to 50 images of each class; together they are all images; seeds give other blocks."""
    labels = np.repeat([0, 2, 3], [120, 50, 7])
    blocks = list(draw_blocks(labels, 3))
    assert [np.bincount(labels[rows], minlength=4).tolist() for rows in blocks] == [
        [BLOCK, 0, BLOCK, 7],
        [BLOCK, 0, 0, 0],
        [20, 0, 0, 0],
    ]
    assert sorted(np.concatenate(blocks)) == list(range(len(labels)))
    assert all((np.diff(rows) > 0).all() for rows in blocks)
    assert [(next(draw_blocks(labels, seed)) == blocks[0]).all() for seed in (3, 4)] == [True, False]
    assert 0.3 < (blocks[0][:BLOCK] < 60).mean() < 0.7  # of the first class, from its whole range


def test_every_class_has_the_larger_of_its_limits() -> None:
    """A class with two limits needs the larger one; one that misses it decides, also where others are undecided."""
    limits = SequentialLimits(min_worst=0.2, min_class={"b": 0.5})
    decisions = decide([60, 60, 60], [100, 100, 100], limits)
    assert decisions.limits.tolist() == [0.2, 0.5, 0.2]
    assert (decisions.statuses, decisions.status) == (["pass", "undecided", "pass"], "undecided")
    assert decisions.select_undecided().sum() == 100
    assert decide([60, 20, 25], [100, 100, 100], limits).status == "fail"
    assert decide([60, 90, 60], [100, 100, 100], limits).status == "pass"


def test_a_class_without_a_limit_has_the_first_block() -> None:
    """A class without a limit is undecided until it has images, and passes then."""
    limits = SequentialLimits(min_class={"b": 0.5})
    labels = np.array([0] * 3 + [1] * 3)
    decisions = Decisions(labels, ("a", "b"), limits, 0.95)
    assert decisions.statuses == ["undecided", "undecided"]
    decisions.add(np.arange(6), np.zeros(6, bool))
    assert decisions.statuses == ["pass", "undecided"]
    with pytest.raises(InvalidSpec, match="no image of a class 'c'"):
        Decisions(labels, ("a", "b", "c"), SequentialLimits(min_class={"c": 0.5}), 0.95)


@pytest.mark.parametrize("gates", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("limit", "classes"), [(0.25, 10), (0.5, 10), (0.25, 2)])
def test_simulated_gates_err_rarely_and_save_half(limit: float, classes: int, gates: int) -> None:
    """At most α of the gates are wrong, and models 10 points from the limit need at most half of 1,000 images a class."""
    for name, rates in list_models(limit, classes).items():
        result = simulate_audits(rates, limit, 1000, gates)
        wrong = result.passes if min(rates) < limit else result.fails
        assert wrong.sum() <= allowed_failures(ALPHA, gates), name
        if "10 points" in name:
            assert result.images.mean() <= 0.5 * 1000 * classes, name
            assert (result.passes | result.fails).mean() >= 0.9, name


def test_looking_at_ordinary_intervals_errs_too_often() -> None:
    """Clopper–Pearson intervals after every block err in more than α of the gates at the limit, so the test above can fail."""
    result = simulate_audits([0.25] * 10, 0.25, 1000, 2000, bounds=clopper_pearson)
    assert result.fails.sum() > allowed_failures(ALPHA, 2000)
