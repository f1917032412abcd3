"""Plant a weak group in images, and measure whether a fine-tuning by class × group cells lifts it.

    python -m benchmarks.groups [--out FILE] [--quick] [--root ROOT] [--seeds N] [--only NAME]… [--images N]
                                [--test-images N] [--validation-fraction F] [--steps N] [--learning-rates A,B]
                                [--attacks JSON] [--threads N]

A third of the images of every class of Fashion-MNIST becomes the group `dim`: the mean of the image and its blurred copy,
with four fifths of the contrast. The others are the group `plain`. The bundled classifier is fine-tuned by `uniform`, by
`faal`, and by `faal` with `groups`, with equal training images, learning rates, attack and seeds. Weights are chosen on
validation images. Then `--attacks` judge the test images once. Without ROOT, the folder of the whole data set, the bundled images
are used. With it, the test images are those that are not bundled: on the bundled ones the planted group was chosen.
FILE gets a JSON line for each finished run, with the outcome of every test image. The same command resumes after those runs, and
within a run. The last line is one JSON object: the accuracies of each method under attack, mean over the seeds, and by how much
the weak group changed, with a p-value (`worst_class_test.py`). Every seed also has the change of the weak group and of the cell
that was worst before, with exact McNemar tests, the latter adjusted over the cells.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import numpy as np
import torch
from torch.nn import functional

from benchmarks.result_rows import ResultRows
from benchmarks.stored_trainings import StoredTrainings
from benchmarks.worst_class_test import compare_worst, pack, unpack
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.datasets.grouping import Grouping
from faal_core.results.comparison import compare
from faal_core.specs import AuditSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import digest, read_classifier

CPU = torch.device("cpu")
COLUMN, WEAK, PLAIN = "light", "dim", "plain"
CONTRAST = 0.8
BEFORE = "before"
METHODS: dict[str, dict[str, Any]] = {
    "faal by cells": {"type": "faal", "groups": COLUMN, "min_cell_images": 50},
    "faal": {"type": "faal"},
    "uniform": {"type": "uniform"},
}
THREAT = {"epsilon": 0.1}
BASE = Path(str(files("faal_core") / "bundled/classifier.safetensors"))
MEANS = ("clean", "mean", "weak", "plain", "worst_class", "worst_cell")


def plant_weak_group(data: LabelledImages) -> LabelledImages:
    """Return the data with every third image of a class dimmed and blurred, and the column of groups."""
    place = np.zeros(len(data), np.int64)
    for label in range(len(data.class_names)):
        rows = np.flatnonzero(data.labels.numpy() == label)
        place[rows] = np.arange(len(rows))
    is_weak = torch.from_numpy(place % 3 == 0)
    pixels = functional.pad(data.images.float(), (1, 1, 1, 1), mode="replicate")
    half_blurred = (data.images + functional.avg_pool2d(pixels, 3, stride=1)) / 2
    dimmed = (CONTRAST * half_blurred).round().to(torch.uint8)
    groups = [WEAK if weak else PLAIN for weak in is_weak.tolist()]
    images = torch.where(is_weak.view(-1, 1, 1, 1), dimmed, data.images)
    return replace(data, images=images, groups=(Grouping.from_values(COLUMN, groups),))


def draw(data: LabelledImages, count: int) -> LabelledImages:
    """Return that many of the images, the same fraction of each class."""
    return data.take(data.stratified(count, 0))


def load_parts(root: Path | None) -> list[LabelledImages]:
    """Return training and test images: the bundled ones, or those in `root`, of which tests take none that is bundled."""
    bundled = [load("fashion-mnist-subset", part) for part in ("train", "test")]
    if root is None:
        return bundled
    data, test = (load("fashion-mnist", part, root=root) for part in ("train", "test"))
    known = {bundled[1].digest(row) for row in range(len(bundled[1]))}
    return [data, test.take(torch.tensor([row for row in range(len(test)) if test.digest(row) not in known]))]


def fine_tune(
    name: str, seed: int, data: LabelledImages, trainings: StoredTrainings, training: dict[str, Any]
) -> tuple[Classifier, dict[str, Any]]:
    """Return the weights that the method selects, and how it came to them."""
    base = read_classifier(BASE)
    spec = FinetuneSpec.model_validate(
        {"threat": THREAT, "method": METHODS[name], "training": {**training, "seed": seed}}
    )

    def describe(result: TrainingResult) -> dict[str, Any]:
        candidates = result.candidates.in_order if result.candidates else ()
        return {
            "kept_original": result.kept_original,
            "interpolation": result.interpolation,
            "offset_scale": result.offset_scale,
            "candidates": [(one.robust, one.robust_worst, one.clean, one.within_bounds) for one in candidates],
        }

    return trainings.get(
        f"{name}-{seed}", lambda checkpoint: train(base, data, spec, device=CPU, checkpoint=checkpoint), describe
    )


def judge(classifier: Classifier, test: LabelledImages, ledger: Path, attacks: Any) -> dict[str, str]:  # noqa: ANN401
    """Return which test images are correct, packed, without attacks and with them, a preset or a list."""
    spec = AuditSpec.model_validate({"threat": THREAT, "attacks": attacks})
    evaluation = run_audit(classifier, test, spec, name="benchmark", device=CPU, ledger=ledger).evaluation
    return {"clean": pack(evaluation.correct), "robust": pack(evaluation.robust)}


def summarise(row: dict[str, Any], before: dict[str, Any], test: LabelledImages) -> dict[str, Any]:
    """Return the accuracies of a run, and its changes."""
    labels, groups = test.labels.numpy(), test.groups[0].members
    cells = labels * len(test.groups[0].names) + groups
    names = tuple(f"{name} × {group}" for name in test.class_names for group in test.groups[0].names)
    one, other = (unpack(source["robust"], len(test)) for source in (before, row))
    by_cell = compare(cells, one, other, names, 0.95)
    by_group = compare(groups, one, other, test.groups[0].names, 0.95)
    by_class = compare(labels, one, other, test.class_names, 0.95)
    weak = next(change for change in by_group.classes if change.name == WEAK)
    worst = next(change for change in by_cell.classes if change.name == by_cell.worst_class_before)
    return {
        "clean": float(unpack(row["clean"], len(test)).mean()),
        "mean": float(other.mean()),
        "mean_change": [by_cell.mean_change.value, by_cell.mean_change.low, by_cell.mean_change.high],
        "worst_class": min(change.after for change in by_class.classes),
        "worst_cell": min(change.after for change in by_cell.classes),
        "worst_cell_name": by_cell.worst_class_after,
        "plain": next(change.after for change in by_group.classes if change.name == PLAIN),
        "weak": weak.after,
        "weak_change": [weak.after - weak.before, weak.gained, weak.lost, weak.p_value],
        "worst_before": [worst.name, worst.after - worst.before, worst.gained, worst.lost, worst.p_adjusted],
    }


def tabulate(rows: list[dict[str, Any]], test: LabelledImages) -> dict[str, dict[str, Any]]:
    """Return the accuracies of each method, mean over its seeds, and the changes of each seed and of all."""
    before = next(row for row in rows if row["method"] == BEFORE)
    weak = np.flatnonzero(test.groups[0].members == test.groups[0].names.index(WEAK))
    table = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own_rows = [row for row in rows if row["method"] == name]
        summaries = [summarise(row, before, test) for row in own_rows]
        after, given = (
            np.stack([unpack(row["robust"], len(test))[weak] for row in some])
            for some in (own_rows, [before] * len(own_rows))
        )
        change = compare_worst(np.zeros(len(weak), np.int64), after, given)
        means = {key: round(statistics.mean(one[key] for one in summaries), 4) for key in MEANS}
        changes = {key: [one[key] for one in summaries] for key in ("mean_change", "weak_change", "worst_before")}
        table[name] = {**means, "weak_change_of_all": change.value, "weak_p_value": change.p_value, **changes}
    return table


def main() -> None:
    """Run what is missing, then print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("groups.jsonl"))
    parser.add_argument("--quick", action="store_true", help="one seed, 300 training and 100 test images, PGD-2")
    parser.add_argument("--root", type=Path, help="folder of the whole of Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=METHODS)
    parser.add_argument("--images", type=int, default=6000, help="training images, validation images included")
    parser.add_argument("--test-images", type=int, default=3000)
    parser.add_argument("--validation-fraction", type=float, default=0.1, help="part of the training images")
    parser.add_argument("--steps", type=int, default=10, help="steps of the training attack")
    parser.add_argument("--learning-rates", default="0.01,0.01,0.01,0.001", help="one an epoch")
    parser.add_argument("--attacks", default="fast", help="a preset, or attacks as a JSON list")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    attacks: Any = json.loads(arguments.attacks) if arguments.attacks.startswith("[") else arguments.attacks
    if arguments.quick:
        arguments.seeds, arguments.images, arguments.test_images, arguments.steps = 1, 300, 100, 2
        attacks = [{"type": "pgd", "steps": 2}]
    data, test = map(plant_weak_group, load_parts(arguments.root))
    data, test = draw(data, arguments.images), draw(test, arguments.test_images)
    attack = {"steps": arguments.steps, "relative_step": 2.5 / arguments.steps}
    rates = [float(rate) for rate in arguments.learning_rates.split(",")]
    training = {"validation_fraction": arguments.validation_fraction, "attack": attack, "learning_rates": rates}
    settings = {"contrast": CONTRAST, "images": len(data), "test_images": len(test), **training, "attacks": attacks}
    constants = [json.dumps([METHODS, THREAT]), digest(read_classifier(BASE))]
    results = ResultRows(arguments.out, [json.dumps(settings), data.sha256, test.sha256, *constants])
    folder = arguments.out.with_suffix(f".{results.experiment}")
    trainings = StoredTrainings(folder)
    finished = {(row["method"], row["seed"]) for row in results.rows}

    def add_row(name: str, seed: int, classifier: Classifier, notes: dict[str, Any]) -> None:
        """Judge the classifier, and append the row to the results."""
        outcomes = judge(classifier, test, folder / f"{name}-{seed}.ledger", attacks)
        results.append({"method": name, "seed": seed, **notes, **outcomes})

    start = time.monotonic()
    if (BEFORE, 0) not in finished:
        add_row(BEFORE, 0, read_classifier(BASE), {})
    for seed in range(arguments.seeds):
        for name in arguments.only or METHODS:
            if (name, seed) not in finished:
                add_row(name, seed, *fine_tune(name, seed, data, trainings, training))
                print(name, seed, f"after {time.monotonic() - start:.0f} s", flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(
        json.dumps({"benchmark": "groups", **versions, "settings": settings, "methods": tabulate(results.rows, test)})
    )


if __name__ == "__main__":
    main()
