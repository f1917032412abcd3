"""The inner maximum of FAAL: the class distribution in a ball around uniform that makes the expected risk largest."""

import math

import numpy as np
from numpy.typing import NDArray

from faal_core.specs import Divergence

Vector = NDArray[np.float64]

_TOLERANCE = 1e-12
_MAX_STEPS = 100


def worst_case_weights(
    risk: Vector, radius: float, present: NDArray[np.bool_] | None = None, divergence: Divergence = "kl-u-p"
) -> Vector:
    """The distribution p that maximises ⟨p, risk⟩ within `radius` of uniform u, in float64, summing to 1.

    u is uniform over the classes that are `present` (all, when absent); the others get 0. Permuting the classes permutes
    p; adding a constant to the risks or scaling them by a positive one changes nothing. With equal risks, or a radius of
    0, p = u. The constraint is met to 1e-12 otherwise, unless all of p on the classes of greatest risk still meets it, as
    KL(p‖u) and χ² allow. Cost: a handful of Newton steps, O(k) each; for χ² one sort.

    Args:
        risk: one finite number a class (k of them); larger is worse.
        radius: ≥ 0, in nats for KL(u‖p) and KL(p‖u); Σ (p − u)² / u for χ².
        present: which classes take part; at least one.
    Source: Zhang et al., CVPR 2024, the inner problem of the min-max-max; docs/method.md derives the closed forms:
        p_c ∝ 1 / (η − risk_c), p_c ∝ exp(θ · risk_c) and p_c ∝ max(risk_c − ν, 0).
    """
    if present is not None and not present.all():
        weights = np.zeros(len(risk))
        weights[present] = worst_case_weights(risk[present], radius, divergence=divergence)
        return weights
    top = risk.max()
    spread = top - risk.min()
    if radius <= 0 or spread <= 1e-12 * max(abs(top), np.finfo(float).tiny):
        return np.full(len(risk), 1 / len(risk))
    weights = _WORST[divergence]((top - risk) / spread, radius)
    return weights / weights.sum()


def _kl_u_p(deficit: Vector, radius: float) -> Vector:
    """For KL(u‖p): never 0."""
    with np.errstate(divide="ignore"):
        log_deficit = np.log(deficit)
    return np.exp(-np.logaddexp(0, _solve(log_deficit, radius) + log_deficit))


def _kl_p_u(deficit: Vector, radius: float) -> Vector:
    """For KL(p‖u): e^(−θ · deficit), with θ by safeguarded Newton on KL, which rises with θ by θ · Var_p(deficit).

    KL tends to log k − log (number of classes of greatest risk); from there on all of p lies on these.
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
    """For χ²: max(ν − deficit, 0), with ν from the number m of classes that keep a weight.

    With those of least deficit in their mean μ and variance V, (ν − μ)² = V / ((1 + radius) m / k − 1); the right m is the
    smallest whose ν is not above the first deficit outside. Its ν is above the last deficit within.
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
    """The y at which KL(u‖p) = radius for p ∝ w, w_c = 1 / (1 + e^y · deficit_c), by safeguarded Newton on log KL.

    With deficit_c = (max risk − risk_c) / (max − min risk) and e^−y = (η − max risk) / (max − min risk), KL(u‖p) is
    log mean w − mean log w, rises with y, and d KL/dy = Σw²/Σw − mean w. Everything stays in logarithms, since weights
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


_WORST = {"kl-u-p": _kl_u_p, "kl-p-u": _kl_p_u, "chi-squared": _chi_squared}
