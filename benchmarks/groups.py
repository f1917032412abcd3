"""Plant a weak group in images, and measure whether a fine-tuning by class × group cells lifts it.

    python -m benchmarks.groups [--out FILE] [--quick] [--seeds N] [--only NAME]… [--threads N]

A third of the images of every class of the bundled data becomes the group `dim`: contrast is halved around the darkest level, and
the images are blurred. The others are the group `plain`. The bundled classifier is fine-tuned by `uniform`, by `faal`, and by
`faal` with `groups`, with equal training images, learning rates, attack and seeds. Weights are chosen on validation images. The
test images are audited by `fast` before and after. FILE gets a JSON line for each finished run, and the same command resumes
after those runs. The last line is one JSON object: for each method the change of the mean, of the weak group, of the worst class
and of the worst cell in points, mean over the seeds, and the p-value of each seed for the weak group (exact McNemar test).
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import numpy as np
import torch
from torch.nn import functional

from faal_core.datasets import LabelledImages, load
from faal_core.datasets.grouping import Grouping
from faal_core.finetuning import FinetuneResult
from faal_core.finetuning.run import run_finetuning
from faal_core.reports.text import verdict
from faal_core.results import intervals
from faal_core.specs import FinetuneSpec
from faal_core.weights import read_classifier

COLUMN, WEAK, PLAIN = "light", "dim", "plain"
CONTRAST = 0.6
METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"type": "uniform"},
    "faal": {"type": "faal"},
    "faal by cells": {"type": "faal", "groups": COLUMN},
}
QUICK_ATTACKS = [{"type": "pgd", "steps": 2}]
QUICK_TRAINING = {"learning_rates": [0.002], "attack": {"steps": 2}}


def plant_weak_group(data: LabelledImages) -> LabelledImages:
    """Return the data with every third image of a class dimmed and blurred, and the column of groups."""
    place = np.zeros(len(data), np.int64)
    for label in range(len(data.class_names)):
        rows = np.flatnonzero(data.labels.numpy() == label)
        place[rows] = np.arange(len(rows))
    is_weak = torch.from_numpy(place % 3 == 0)
    pixels = data.images.float()
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.where(is_weak.view(-1, 1, 1, 1), (CONTRAST * blurred).round().to(torch.uint8), data.images)
    groups = [WEAK if weak else PLAIN for weak in is_weak.tolist()]
    return replace(data, images=images, groups=(Grouping.from_values(COLUMN, groups),))


def measure(result: FinetuneResult) -> dict[str, Any]:
    """Return accuracies before and after, under attack unless `clean`, and the test of the weak group."""
    before, after = result.outcomes
    labels, groups = before.evaluation.labels, np.array(before.groups[COLUMN])
    one, other = before.evaluation.robust, after.evaluation.robust
    weak = groups == WEAK

    def list_rates(flags: np.ndarray) -> dict[str, float]:
        cells = {
            f"{result.report.before.dataset.class_names[label]}, {group}": flags[
                (labels == label) & (groups == group)
            ].mean()
            for label in np.unique(labels)
            for group in (PLAIN, WEAK)
        }
        worst = min(cells, key=cells.__getitem__)
        return {
            "mean": float(flags.mean()),
            "weak": float(flags[weak].mean()),
            "plain": float(flags[~weak].mean()),
            "worst_class": float(min(flags[labels == label].mean() for label in np.unique(labels))),
            "worst_cell": float(cells[worst]),
            "worst_cell_name": worst,
        }

    gained, lost = np.array([(weak & ~one & other).sum()]), np.array([(weak & one & ~other).sum()])
    return {
        "before": list_rates(one),
        "after": list_rates(other),
        "clean_before": list_rates(before.evaluation.correct),
        "clean_after": list_rates(after.evaluation.correct),
        "weak_gained": int(gained[0]),
        "weak_lost": int(lost[0]),
        "weak_p": float(intervals.mcnemar(gained, lost)[0]),
        "outcome": result.report.outcome,
        "interpolation": result.report.selected_interpolation,
        "offset_scale": result.report.selected_offset_scale,
        "summary": verdict(result.report)[:3],
    }


def run(name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Fine-tune the bundled classifier by that method, and return what the test images show."""
    data, test = (plant_weak_group(load("fashion-mnist-subset", part)) for part in ("train", "test"))
    method = METHODS[name]
    if quick:
        data, test = data.take(data.stratified(300, 0)), test.take(test.stratified(200, 0))
        method = {**method, "min_cell_images": 5} if "groups" in method else method
    spec = FinetuneSpec.model_validate(
        {
            "threat": {"epsilon": 0.1},
            "method": method,
            "training": {"seed": seed, "validation_fraction": 0.2, **(QUICK_TRAINING if quick else {})},
            "audit": {"attacks": QUICK_ATTACKS if quick else "fast"},
        }
    )
    classifier = read_classifier(Path(str(files("faal_core") / "bundled/classifier.safetensors")))
    start = time.monotonic()
    result = run_finetuning(classifier, data, test, spec, name="bundled", device=torch.device("cpu"))
    minutes = (time.monotonic() - start) / 60
    return {"method": name, "seed": seed, **measure(result), "minutes": round(minutes, 2), "quick": quick}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the changes of each method in points, mean over the seeds."""
    figures = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        changes: dict[str, Any] = {
            key: round(100 * statistics.mean(row["after"][key] - row["before"][key] for row in own), 2)
            for key in ("mean", "weak", "plain", "worst_class", "worst_cell")
        }
        changes["clean"] = round(
            100 * statistics.mean(row["clean_after"]["mean"] - row["clean_before"]["mean"] for row in own), 2
        )
        figures[name] = {**changes, "weak_p": [row["weak_p"] for row in own], "seeds": len(own)}
    return figures


def main() -> None:
    """Run what is missing, then print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("groups.jsonl"))
    parser.add_argument("--quick", action="store_true", help="one seed, 300 training and 200 test images, PGD-2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=METHODS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.touch()
    rows = [row for row in map(json.loads, arguments.out.read_text().splitlines()) if row["quick"] == arguments.quick]
    finished = {(row["method"], row["seed"]) for row in rows}
    for seed in range(1 if arguments.quick else arguments.seeds):
        for name in arguments.only or METHODS:
            if (name, seed) not in finished:
                rows.append(run(name, seed, quick=arguments.quick))
                with arguments.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "groups", **versions, "methods": summarise(rows)}))


if __name__ == "__main__":
    main()
