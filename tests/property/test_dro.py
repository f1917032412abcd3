"""Test FAAL's inner maximum against general convex solvers and its own invariances."""

import warnings
from random import Random

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faal_core.dro import worst_case_weights

RISKS = st.integers(2, 30).flatmap(lambda k: arrays(np.float64, k, elements=st.floats(-1, 1, allow_subnormal=False)))
# Differences of these risks survive a shift. A finer one, as between 0 and 1e-45, can decide a weight and is lost in 3 + risk.
COARSE_RISKS = st.lists(st.integers(-1000, 1000), min_size=2, max_size=30).map(lambda steps: np.array(steps) / 1000)
RADII = st.floats(1e-3, 5)


SOLVERS = ((cvxpy.CLARABEL, {}), (cvxpy.SCS, {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 20_000}))


class Reference:
    """General solvers of convex problems, with counts of their solutions and of the failures of all of them by rounding."""

    def __init__(self, solvers: tuple[tuple[str, dict[str, float]], ...] = SOLVERS) -> None:
        self.solvers, self.solutions, self.failures = solvers, 0, 0

    def optimum(self, problem: cvxpy.Problem) -> float | None:
        """Return the optimum by the first solver that is certain of its solution; None where none is."""
        for solver, options in self.solvers:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that a solution may be inaccurate, which the status says too
                    problem.solve(solver=solver, **options)
            except cvxpy.SolverError:
                continue
            if problem.status == cvxpy.OPTIMAL:
                self.solutions += 1
                return float(problem.value)
        self.failures += 1
        return None

    def require_answers(self) -> None:
        """Fail unless more than four problems of five were solved, so that there was something to compare with."""
        assert self.solutions > 4 * self.failures, f"{self.solutions} problems solved, {self.failures} not"


def kl_from_uniform(weights: np.ndarray) -> float:
    """Return KL(u‖p) in nats, u uniform."""
    return float(-np.log(len(weights)) - np.log(weights).mean())


@given(RISKS, RADII)
def test_the_weights_are_at_the_edge_of_the_ball(risk: np.ndarray, radius: float) -> None:
    """The weights are a distribution p with KL(u‖p) equal to the radius within 1e-9, unless all risks are equal."""
    weights = worst_case_weights(risk, radius)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    if np.ptp(risk) > 1e-9 and weights.min() > 1e-290:
        assert abs(kl_from_uniform(weights) - radius) <= 1e-9


@given(RISKS, RADII)
def test_greater_risk_never_gets_less_weight(risk: np.ndarray, radius: float) -> None:
    """A class of greater risk never has less weight."""
    weights = worst_case_weights(risk, radius)
    assert (np.diff(weights[np.argsort(risk, kind="stable")]) >= -1e-15).all()


@given(RISKS, RADII, st.randoms(use_true_random=False))
def test_classes_have_no_order(risk: np.ndarray, radius: float, random: Random) -> None:
    """Permuting the classes permutes the weights."""
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(risk))
    np.testing.assert_allclose(
        worst_case_weights(risk[order], radius), worst_case_weights(risk, radius)[order], atol=1e-12
    )


@given(COARSE_RISKS, RADII, st.floats(-3, 3), st.floats(0.1, 10))
def test_only_differences_of_risk_count(risk: np.ndarray, radius: float, shift: float, scale: float) -> None:
    """Shifting or scaling the risks does not change the weights."""
    expected = worst_case_weights(risk, radius)
    np.testing.assert_allclose(worst_case_weights(shift + scale * risk, radius), expected, atol=1e-9)


@pytest.mark.parametrize("divergence", ["kl-p-u", "chi-squared"])
def test_the_other_balls_are_met_and_no_distribution_in_them_is_worse(divergence: str) -> None:
    """The weights for KL(p‖u) and χ²(p‖u) are within the radius too, and a convex solver finds no greater expected risk."""
    reference = Reference()

    @settings(max_examples=15)
    @given(RISKS, st.floats(0.01, 3))
    def holds(risk: np.ndarray, radius: float) -> None:
        k = len(risk)
        weights = worst_case_weights(risk, radius, divergence=divergence)
        support, p = weights[weights > 0], cvxpy.Variable(k)
        if divergence == "kl-p-u":
            size, distance = (support * np.log(support * k)).sum(), cvxpy.sum(cvxpy.rel_entr(p, np.full(k, 1 / k)))
        else:
            size, distance = k * ((weights - 1 / k) ** 2).sum(), k * cvxpy.sum_squares(p - 1 / k)
        assert weights.sum() == pytest.approx(1)
        assert size <= radius + 1e-9
        problem = cvxpy.Problem(cvxpy.Maximize(risk @ p), [cvxpy.sum(p) == 1, p >= 0, distance <= radius])
        optimum = reference.optimum(problem)
        assert optimum is None or risk @ weights >= optimum - 1e-6

    holds()
    reference.require_answers()


def test_risks_that_differ_by_less_than_rounding_are_equal() -> None:
    """For χ², two greatest risks 10⁻¹⁷⁹ apart share the weight, without a division by an underflowed variance."""
    risk = np.array([1.7e-179, 0.0, -1.0])
    np.testing.assert_array_equal(worst_case_weights(risk, 1.0, divergence="chi-squared"), [0.5, 0.5, 0])


@pytest.mark.parametrize("divergence", ["kl-p-u", "chi-squared"])
def test_the_other_balls_may_leave_all_weight_on_the_worst(divergence: str) -> None:
    """From a radius of log (k/m) or k/m − 1, the m classes of greatest risk share all of the weight, here two of four."""
    least = {"kl-p-u": np.log(2), "chi-squared": 1.0}[divergence]
    risk = np.array([1.0, 0.0, 1.0, -1.0])
    np.testing.assert_allclose(worst_case_weights(risk, least, divergence=divergence), [0.5, 0, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(worst_case_weights(risk, 2 * least, divergence=divergence), [0.5, 0, 0.5, 0], atol=1e-12)


def test_no_distribution_in_the_ball_is_worse() -> None:
    """A general convex solver finds no greater expected risk in the ball, and no smaller optimum."""
    reference = Reference()

    @settings(max_examples=15)
    @given(RISKS, st.floats(0.01, 2))
    def holds(risk: np.ndarray, radius: float) -> None:
        k = len(risk)
        p = cvxpy.Variable(k)
        ball = -cvxpy.sum(cvxpy.log(p)) / k - np.log(k) <= radius
        optimum = reference.optimum(cvxpy.Problem(cvxpy.Maximize(risk @ p), [cvxpy.sum(p) == 1, ball]))
        assert optimum is None or worst_case_weights(risk, radius) @ risk == pytest.approx(optimum, abs=2e-6)

    holds()
    reference.require_answers()


def test_a_reference_that_gives_up_neither_fails_a_test_nor_passes_it() -> None:
    """If the first solver fails, the second solves the problem; without a second, too few solutions are an error."""
    p = cvxpy.Variable(2)
    ball = cvxpy.sum(cvxpy.rel_entr(p, np.full(2, 0.5))) <= 0.1
    problem = cvxpy.Problem(cvxpy.Maximize(p[0]), [cvxpy.sum(p) == 1, p >= 0, ball])
    gives_up = (cvxpy.CLARABEL, {"max_iter": 1})
    reference = Reference((gives_up, SOLVERS[1]))
    expected = worst_case_weights(np.array([1.0, 0.0]), 0.1, divergence="kl-p-u")[0]
    assert reference.optimum(problem) == pytest.approx(expected, abs=1e-6)
    reference.require_answers()
    reference = Reference((gives_up,))
    assert reference.optimum(problem) is None
    with pytest.raises(AssertionError, match="0 problems solved, 1 not"):
        reference.require_answers()


def test_absent_classes_get_nothing() -> None:
    """A class without images has weight 0 and does not change the others' weights, also if all risks are negative."""
    risk = np.array([-0.9, -0.5, 0.0, -0.7])
    weights = worst_case_weights(risk, 0.5, present=np.array([True, True, False, True]))
    assert weights[2] == 0
    np.testing.assert_array_equal(weights[[0, 1, 3]], worst_case_weights(risk[[0, 1, 3]], 0.5))


@pytest.mark.parametrize("risk", [np.full(10, 0.3), np.zeros(3), np.array([0.7])])
def test_equal_risks_keep_uniform(risk: np.ndarray) -> None:
    """Equal risks give uniform weights."""
    np.testing.assert_array_equal(worst_case_weights(risk, 0.5), np.full(len(risk), 1 / len(risk)))


def test_radius_zero_is_uniform() -> None:
    """A ball of radius 0 holds only the uniform distribution."""
    np.testing.assert_array_equal(worst_case_weights(np.array([0.1, 0.9]), 0), [0.5, 0.5])


@pytest.mark.parametrize("k", [2, 10, 1000])
@pytest.mark.parametrize("radius", [1e-6, 0.5, 5])
def test_extreme_spreads(k: int, radius: float) -> None:
    """The risk of one class far above or below the rest causes no overflow, and the weights stay a distribution."""
    for risk in (np.eye(k)[0] * 1e12, 1e-12 * -np.eye(k)[0], np.linspace(-1, 1, k) ** 9):
        weights = worst_case_weights(risk, radius)
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
