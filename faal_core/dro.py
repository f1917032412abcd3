"""The inner maximum of FAAL: the class distribution in a KL ball around uniform that makes the expected risk largest."""

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_TOLERANCE = 1e-12
_MAX_STEPS = 100


def worst_case_weights(risk: Vector, kl_radius: float, present: NDArray[np.bool_] | None = None) -> Vector:
    """The distribution p that maximises ⟨p, risk⟩ subject to KL(u‖p) ≤ kl_radius, in float64, summing to 1.

    u is uniform over the classes that are `present` (all, when absent); the others get 0. Permuting the classes permutes
    p; adding a constant to the risks or scaling them by a positive one changes nothing. With equal risks, or a radius of
    0, p = u. The constraint is met to 1e-12 otherwise. Cost: a handful of Newton steps, O(k) each.

    Args:
        risk: one finite number a class (k of them); larger is worse.
        kl_radius: nats, ≥ 0.
        present: which classes take part; at least one.
    Source: Zhang et al., CVPR 2024, the inner problem of the min-max-max; the closed form is derived in docs/method.md:
        p_c ∝ u_c / (η − risk_c), with the multiplier η > max risk found from KL(u‖p(η)) = kl_radius.
    """
    if present is not None and not present.all():
        weights = np.zeros(len(risk))
        weights[present] = worst_case_weights(risk[present], kl_radius)
        return weights
    top = risk.max()
    spread = top - risk.min()
    if kl_radius <= 0 or spread <= 1e-12 * max(abs(top), np.finfo(float).tiny):
        return np.full(len(risk), 1 / len(risk))
    with np.errstate(divide="ignore"):
        log_deficit = np.log((top - risk) / spread)
    weights = np.exp(-np.logaddexp(0, _solve(log_deficit, kl_radius) + log_deficit))
    return weights / weights.sum()


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
