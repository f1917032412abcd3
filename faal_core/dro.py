"""Find FAAL's class distribution: the one near uniform with the largest expected risk."""

import math

import numpy as np
from numpy.typing import NDArray

from faal_core.specs import Divergence

Vector = NDArray[np.float64]

_TOLERANCE = 1e-12  # largest error of the divergence; relative where the radius is above 1
_MAX_STEPS = 100  # bounds the loop; a handful of Newton steps suffice


def worst_case_weights(
    risk: Vector, radius: float, present: NDArray[np.bool_] | None = None, divergence: Divergence = "kl-u-p"
) -> Vector:
    """Return the distribution p that maximises ⟨p, risk⟩ within the DRO radius of uniform u, in float64, summing to 1.

    u is uniform over the classes that are `present`; the others get 0. Permuting the classes permutes p. Adding a
    constant to the risks, or scaling them by a positive one, changes nothing. With equal risks, or a radius of 0, p = u.
    Otherwise the divergence equals the radius to 1e-12. Exception, for KL(p‖u) and χ²: where even all weight on the
    classes of greatest risk stays within the radius, that is the answer.

    Args:
        risk: one finite number per class (k of them); larger is worse.
        radius: ≥ 0, in nats for KL(u‖p) and KL(p‖u); Σ (p − u)² / u for χ².
        present: which classes take part, at least one; all when absent.
    Cost: a handful of Newton steps, O(k) each; for χ² one sort.
    Source: Zhang et al., CVPR 2024, the inner problem of the min-max-max; docs/explanation/faal.md derives the forms p_c ∝ 1
        / (η − risk_c), p_c ∝ exp(θ · risk_c) and p_c ∝ max(risk_c − ν, 0).
    """
    if present is not None and not present.all():
        weights = np.zeros(len(risk))
        weights[present] = worst_case_weights(risk[present], radius, divergence=divergence)
        return weights
    top = risk.max()
    spread = top - risk.min()
    if radius <= 0 or spread <= 1e-12 * max(abs(top), np.finfo(float).tiny):
        return np.full(len(risk), 1 / len(risk))
    weights = _SOLVERS[divergence]((top - risk) / spread, radius)
    return weights / weights.sum()


def _kl_u_p(deficit: Vector, radius: float) -> Vector:
    """Return the unnormalised weights for KL(u‖p); none is 0."""
    with np.errstate(divide="ignore"):
        log_deficit = np.log(deficit)
    return np.exp(-np.logaddexp(0, _solve(log_deficit, radius) + log_deficit))


def _kl_p_u(deficit: Vector, radius: float) -> Vector:
    """Return the weights e^(−θ · deficit) for KL(p‖u), with θ by safeguarded Newton on KL.

    KL rises with θ by θ · Var_p(deficit). It tends to log k − log (number of classes of greatest risk); for larger radii
    all of p is on these classes.
    """
    worst = deficit == 0
    if radius >= math.log(len(deficit) / worst.sum()) - _TOLERANCE:
        return worst.astype(np.float64)
    low, high, theta = 0.0, math.inf, math.sqrt(2 * radius / deficit.var())
    for _ in range(_MAX_STEPS):
        w = np.exp(-theta * deficit)
        p = w / w.sum()
        mean = float(p @ deficit)
        kl = math.log(len(deficit)) - theta * mean - math.log(w.sum())
        if abs(kl - radius) <= _TOLERANCE * max(1.0, radius):
            break
        low, high = (theta, high) if kl < radius else (low, theta)
        slope = theta * float(p @ (deficit - mean) ** 2)
        newton = theta + (radius - kl) / slope if slope > 0 else math.inf
        theta = (
            newton if low < newton < min(high, 2 * theta + 1) else (2 * theta if high == math.inf else (low + high) / 2)
        )
    return w


def _chi_squared(deficit: Vector, radius: float) -> Vector:
    """Return the weights max(ν − deficit, 0) for χ², with ν from the number m of classes that keep a weight.

    Let μ and V be the mean and variance of the m smallest deficits. Then (ν − μ)² = V / ((1 + radius) m / k − 1). The
    right m is the smallest whose ν is not above the first deficit outside. Its ν is above the last deficit within.
    """
    k = len(deficit)
    deficit = np.where(deficit < np.finfo(float).eps, 0, deficit)  # the variance of smaller ones would underflow
    ordered = np.sort(deficit)
    worst = deficit == 0
    if radius >= k / worst.sum() - 1:
        return worst.astype(np.float64)
    m = np.arange(1, k + 1)
    mean = ordered.cumsum() / m
    variance = np.maximum((ordered**2).cumsum() / m - mean**2, 0)
    slack = (1 + radius) * m / k - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        nu = np.where(slack > 0, mean + np.sqrt(variance / slack), np.inf)
    outside = np.append(ordered[1:], np.inf)
    return np.maximum(nu[int(np.argmax(nu <= outside))] - deficit, 0)


def _solve(log_deficit: Vector, radius: float) -> float:
    """Return the y at which KL(u‖p) = radius for p ∝ w, w_c = 1 / (1 + e^y · deficit_c), by safeguarded Newton on log KL.

    With deficit_c = (max risk − risk_c) / (max − min risk) and e^−y = (η − max risk) / (max − min risk), KL(u‖p) is log
    mean w − mean log w. It rises with y, and d KL/dy = Σw²/Σw − mean w. Everything stays in logarithms, because weights
    of e^−700 are right answers. log KL is almost linear in y for small radii, KL itself for large ones.
    """
    k = len(log_deficit)
    low, high = 0.5 * math.log(radius) + math.log(2), math.log(k) + k * radius + k
    y, target = min(max(0.0, low), high), math.log(radius)
    for _ in range(_MAX_STEPS):
        log_w = -np.logaddexp(0, y + log_deficit)
        w = np.exp(log_w)
        total = float(w.sum())
        kl = math.log(total / k) - float(log_w.sum()) / k
        if abs(kl - radius) <= _TOLERANCE * max(1.0, radius):
            break
        low, high = (y, high) if kl < radius else (low, y)
        slope = float(w.dot(w)) / total - total / k
        step = (target - math.log(kl)) * kl / slope if kl < radius else (radius - kl) / slope
        y = y + step if low <= y + step <= high else (low + high) / 2
    return y


_SOLVERS = {"kl-u-p": _kl_u_p, "kl-p-u": _kl_p_u, "chi-squared": _chi_squared}
