"""The inner maximum: our closed form beside the same problem rebuilt in cvxpy for every batch, as the published code does.

    python benchmarks/dro.py [--quick]

Both solve the same batches' class risks; medians over the batches, in one run, on one thread. The last line is JSON.
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


def rebuilt_in_cvxpy(risk: np.ndarray) -> np.ndarray:
    """The worst class distribution from a problem built anew, by cvxpy's default conic solver."""
    k = len(risk)
    p = cvxpy.Variable(k)
    ball = cvxpy.sum(cvxpy.rel_entr(np.full(k, 1 / k), p)) <= RADIUS
    problem = cvxpy.Problem(cvxpy.Maximize(risk @ p), [cvxpy.sum(p) == 1, ball])
    problem.solve(solver=cvxpy.CLARABEL)
    return p.value


def median_seconds(solve: Callable[[np.ndarray], np.ndarray], risks: np.ndarray) -> float:
    """The median time of one batch, after one that is not counted."""
    solve(risks[0])
    times = []
    for risk in risks:
        begun = time.perf_counter()
        solve(risk)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measure(classes: int, batches: int) -> dict[str, float]:
    """Times, their ratio, and how exactly both meet the constraint and agree."""
    risks = np.random.default_rng(0).uniform(-1, 1, size=(batches, classes))
    ours = median_seconds(lambda risk: worst_case_weights(risk, RADIUS), risks)
    theirs = median_seconds(rebuilt_in_cvxpy, risks)
    error = max(abs(-np.log(classes * worst_case_weights(risk, RADIUS)).mean() - RADIUS) for risk in risks)
    apart = max(abs(risk @ (worst_case_weights(risk, RADIUS) - rebuilt_in_cvxpy(risk))) for risk in risks[:20])
    return {
        "classes": classes,
        "batches": batches,
        "closed_form_us": round(ours * 1e6, 1),
        "cvxpy_us": round(theirs * 1e6, 1),
        "ratio": round(theirs / ours, 1),
        "largest_kl_error": float(f"{error:.2g}"),
        "largest_difference_of_objective": float(f"{apart:.2g}"),
    }


def main() -> None:
    """Prints a line for 10 and 100 classes, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    batches = 20 if parser.parse_args().quick else 300
    figures = [measure(classes, batches) for classes in (10, 100)]
    for row in figures:
        print(f"{row['classes']} classes: {row['closed_form_us']} µs against {row['cvxpy_us']} µs, {row['ratio']} ×")
    versions = {"python": platform.python_version(), "numpy": np.__version__, "cvxpy": cvxpy.__version__}
    print(
        json.dumps(
            {"benchmark": "dro", "machine": platform.processor() or platform.machine(), **versions, "rows": figures}
        )
    )


if __name__ == "__main__":
    main()
