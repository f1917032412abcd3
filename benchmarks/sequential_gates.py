"""Simulate sequential audits: how often a gate's verdict is wrong, and what part of the images it needs.

    python benchmarks/sequential_gates.py [--quick] [--gates N] [--output FILE]

Images of a class are drawn independently with its rate. Blocks and intervals are those of an audit; no network runs, so every
image costs the same. The last line is one JSON object. `--output` also adds each row to a file of JSON lines.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.gates.images_to_decide import images_for_smallest
from faal_core.results.intervals import Bounds, clopper_pearson
from faal_core.results.sequential import BLOCK

CONFIDENCE, SEED = 0.95, 0


class Simulation(NamedTuple):
    """Holds the results of simulated audits, one entry per audit.

    Args:
        passes, fails: whether the audit decided that every class reaches the limit, or that a class misses it.
        images: number of audited images of all classes.
    """

    passes: NDArray[np.bool_]
    fails: NDArray[np.bool_]
    images: NDArray[np.int64]


def simulate_audits(
    rates: Sequence[float],
    limit: float,
    images: int,
    audits: int,
    *,
    bounds: Bounds = sequence_bounds,
    seed: int = SEED,
) -> Simulation:
    """Return the results of simulated audits that decide after each block whether every class reaches the limit.

    Args:
        rates: true robust accuracy of each class.
        images: available images of each class.
        bounds: bounds of a single rate; others than those of an audit show their error.
    """
    generator, classes = np.random.default_rng(seed), len(rates)
    correct = np.zeros((audits, classes), np.int64)
    audited = np.zeros((audits, classes), np.int64)
    reached, missed = np.zeros((audits, classes), bool), np.zeros((audits, classes), bool)
    for end in range(BLOCK, images + BLOCK, BLOCK):
        size = min(BLOCK, images - end + BLOCK)
        runs = ~reached & ~missed.any(axis=1, keepdims=True)
        correct += runs * generator.binomial(size, rates, size=(audits, classes))
        audited += size * runs
        counts = np.arange(min(end, images) + 1)
        low, high = bounds(counts, np.full_like(counts, counts[-1]), 1 - (1 - CONFIDENCE) / classes)
        reached |= runs & (low >= limit)[np.minimum(correct, counts[-1])]
        missed |= runs & (high < limit)[np.minimum(correct, counts[-1])]
    return Simulation(np.all(reached, axis=1), np.any(missed, axis=1), audited.sum(axis=1))


def measure(name: str, rates: Sequence[float], limit: float, images: int, gates: int) -> dict[str, Any]:
    """Return the fraction of wrong and of decided verdicts, and the mean fraction of the images."""
    result = simulate_audits(rates, limit, images, gates)
    peeking = simulate_audits(rates, limit, images, gates, bounds=clopper_pearson)
    wrong, wrong_by_peeking = (
        float((one.passes if min(rates) < limit else one.fails).mean()) for one in (result, peeking)
    )
    ordinary = images_for_smallest(np.array(rates), limit, CONFIDENCE, audited=1)
    return {
        "model": name,
        "limit": limit,
        "classes": len(rates),
        "images_per_class": images,
        "wrong": wrong,
        "wrong_by_peeking": wrong_by_peeking,
        "decided": float((result.passes | result.fails).mean()),
        "images": float(result.images.mean() / (images * len(rates))),
        "images_90": float(np.quantile(result.images, 0.9) / (images * len(rates))),
        "ordinary": None if ordinary is None else ordinary / images,
    }


def list_models(limit: float, classes: int) -> dict[str, list[float]]:
    """Return the rates of the classes of each simulated model."""
    return {
        "every class at the limit": [limit] * classes,
        "one class just below, others far above": [limit - 1e-6] + [min(limit + 0.4, 0.95)] * (classes - 1),
        "every class 10 points above": [limit + 0.1] * classes,
        "worst class 10 points above": list(np.linspace(limit + 0.1, limit + 0.4, classes)),
        "worst class 10 points below": list(np.linspace(limit - 0.1, limit + 0.2, classes)),
        "worst class 20 points below": list(np.linspace(limit - 0.2, limit + 0.2, classes)),
    }


def main() -> None:
    """Print a table of all simulations, the largest error, and the largest part of the images 10 points away from a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 gates a row")
    parser.add_argument("--gates", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    gates = 1_000 if options.quick else options.gates
    rows = [
        measure(name, rates, limit, images, gates)
        for limit, classes, images in ((0.25, 10, 1000), (0.5, 10, 1000), (0.25, 2, 1000), (0.25, 100, 1000))
        for name, rates in list_models(limit, classes).items()
    ]
    for row in rows:
        print(*(f"{value:.4g}" if isinstance(value, float) else value for value in row.values()), sep=" | ")
    if options.output:
        with options.output.open("a") as file:
            file.writelines(json.dumps({"gates": gates, **row}) + "\n" for row in rows)
    near = [row for row in rows if "10 points" in row["model"]]
    summary = {"most_wrong": max(row["wrong"] for row in rows), "most_images": max(row["images"] for row in near)}
    print(json.dumps({"gates": gates, **summary}))


if __name__ == "__main__":
    main()
