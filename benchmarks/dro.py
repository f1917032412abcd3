"""Compare our closed form of the inner maximum with cvxpy, which the published code uses.

    python benchmarks/dro.py [--quick]

Like the published code, the cvxpy side builds its problem for every batch. Both solve the same batches' class risks on one
thread. The results are medians over the batches. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import cvxpy
import numpy as np

from faal_core.dro import worst_case_weights

RADIUS = 0.5


def solve_in_cvxpy(risk: np.ndarray) -> np.ndarray:
    """Return the worst class distribution from a new problem, solved by cvxpy's default conic solver."""
    k = len(risk)
    p = cvxpy.Variable(k)
    ball = cvxpy.sum(cvxpy.rel_entr(np.full(k, 1 / k), p)) <= RADIUS
    problem = cvxpy.Problem(cvxpy.Maximize(risk @ p), [cvxpy.sum(p) == 1, ball])
    problem.solve(solver=cvxpy.CLARABEL)
    return p.value


def measure_median_seconds(solve: Callable[[np.ndarray], np.ndarray], risks: np.ndarray) -> float:
    """Return the median time of one batch, after one warm-up batch."""
    solve(risks[0])
    times = []
    for risk in risks:
        start = time.perf_counter()
        solve(risk)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(classes: int, batches: int) -> dict[str, float]:
    """Return times, their ratio, and the largest errors: of the constraint, and between the two objectives."""
    risks = np.random.default_rng(0).uniform(-1, 1, size=(batches, classes))
    closed_form = measure_median_seconds(lambda risk: worst_case_weights(risk, RADIUS), risks)
    cvxpy_seconds = measure_median_seconds(solve_in_cvxpy, risks)
    error = max(abs(-np.log(classes * worst_case_weights(risk, RADIUS)).mean() - RADIUS) for risk in risks)
    difference = max(abs(risk @ (worst_case_weights(risk, RADIUS) - solve_in_cvxpy(risk))) for risk in risks[:20])
    return {
        "classes": classes,
        "batches": batches,
        "closed_form_us": round(closed_form * 1e6, 1),
        "cvxpy_us": round(cvxpy_seconds * 1e6, 1),
        "ratio": round(cvxpy_seconds / closed_form, 1),
        "largest_kl_error": float(f"{error:.2g}"),
        "largest_difference_of_objective": float(f"{difference:.2g}"),
    }


def main() -> None:
    """Print a line for 10 and 100 classes, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    batches = 20 if parser.parse_args().quick else 300
    rows = [measure(classes, batches) for classes in (10, 100)]
    for row in rows:
        print(f"{row['classes']} classes: {row['closed_form_us']} µs against {row['cvxpy_us']} µs, {row['ratio']} ×")
    versions = {"python": platform.python_version(), "numpy": np.__version__, "cvxpy": cvxpy.__version__}
    print(
        json.dumps(
            {"benchmark": "dro", "machine": platform.processor() or platform.machine(), **versions, "rows": rows}
        )
    )


if __name__ == "__main__":
    main()
