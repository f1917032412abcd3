"""Measure which method makes the worst class more robust, and at what cost, from one base classifier.

    python -m benchmarks.fairness [--out FILE] [--quick] [--base WEIGHTS] [--dataset NAME] [--root ROOT] [--epsilon E]
                                  [--images N] [--test-images N] [--attacks JSON] [--learning-rates A,B] [--augment A]
                                  [--precision P] [--seeds N] [--only NAME]… [--threads N]

Every method of `METHODS` fine-tunes the same classifier on the same training images, with the same learning rates, attack and
seeds. The default rule selects the weights on validation images; the published method uses its own rule. Each result is
audited on the same test images, which no selection uses. A process audits equal weights once, such as those of two methods that
kept the original. FILE gets a JSON line for each finished run, and a folder beside it the weights, which are not trained again
for other test images. The same command resumes after those runs, and processes with different `--only` can share FILE. Take a new
FILE after a change of this project: neither rows nor weights tell its version.
The table lists mean ± standard deviation over the seeds. It also lists by how much the worst class of the first method exceeds
each other's, with a 95 % interval and a p-value, which Holm's method adjusts over the table (`worst_class_test.py`). Methods with
equal weights count as one there. The class that the test names in advance is the given classifier's least robust one on training
images.
The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import numpy as np
import torch

from benchmarks.result_rows import ResultRows, name_experiment
from benchmarks.stored_trainings import StoredTrainings
from benchmarks.worst_class_test import adjust, compare_worst, pack, unpack
from faal_core.auditing.processes import Executors
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.specs import AuditSpec, FinetuneSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import digest, read_classifier

CPU = torch.device("cpu")
METHODS: dict[str, dict[str, Any]] = {
    "faal": {},
    "faal, preset paper": {"preset": "paper"},
    "faal-trades": {"method": {"type": "faal", "loss": "trades"}},
    "faal-awp": {"method": {"type": "faal"}, "training": {"weight_perturbation": {"weighted": True}}},
    "head": {"method": {"type": "head"}},
    "hwnwb": {"method": {"type": "hwnwb"}},
    "faal, no offsets": {"method": {"type": "faal", "class_offsets": False}},
    "uniform": {"method": {"type": "uniform"}},
    "uniform, offsets": {"method": {"type": "uniform", "class_offsets": True}},
    "frl": {"method": {"type": "frl"}},
    "cfa": {"method": {"type": "cfa"}},
    "wat": {"method": {"type": "wat"}},
    "dafa": {"method": {"type": "dafa"}},
    "cfol": {"method": {"type": "cfol"}},
    "fsr": {"method": {"type": "fsr"}},
    "decosam": {"method": {"type": "decosam"}, "training": {"learning_rates": [0.01]}},
}
QUICK_ATTACKS = '[{"type": "pgd", "steps": 2}]'
BASELINE = next(iter(METHODS))
GIVEN = "before"
RATES = ("clean", "clean_worst", "mean", "worst", "tail_20", "robust")
FIGURES = ("clean", "mean", "worst", "tail_20", "minutes")


def measure_rates(
    classifier: Classifier, test: LabelledImages, spec: AuditSpec, device: torch.device = CPU
) -> dict[str, Any]:
    """Return accuracies on the test images, clean and under attack, and which images stay right under attack, packed."""
    result = run_audit(classifier, test, spec, name="benchmark", device=device)
    report = result.report
    rates = sorted(row.robust.rate for row in report.classes)
    tail = rates[: -(-len(rates) // 5)]
    return {
        "clean": report.clean.mean.rate,
        "clean_worst": report.clean.worst.value,
        "mean": report.robust.mean.rate,
        "worst": rates[0],
        "tail_20": sum(tail) / len(tail),
        "robust": pack(result.outcomes.evaluation.robust),
    }


def find_rates(
    classifier: Classifier, test: LabelledImages, spec: AuditSpec, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the digest of the weights and their rates, from an earlier row of the same weights where there is one."""
    sha256 = digest(classifier)
    equal = next((row for row in rows if row.get("sha256") == sha256), None)
    rates = {name: equal[name] for name in RATES} if equal else measure_rates(classifier, test, spec)
    return {"sha256": sha256, **rates}


def make_spec(name: str, seed: int, settings: dict[str, Any]) -> FinetuneSpec:
    """Return the spec of one method with one seed."""
    method = METHODS[name]
    training = {**settings["training"], **method.get("training", {}), "seed": seed}
    return FinetuneSpec.model_validate({**method, "threat": settings["threat"], "training": training})


def name_spec(spec: FinetuneSpec) -> str:
    """Return a short digest of all settings of a training."""
    return name_experiment([spec.model_dump_json(exclude={"audit"})])


def fine_tune(
    name: str, spec: FinetuneSpec, base: Classifier, data: LabelledImages, trainings: StoredTrainings
) -> tuple[Classifier, dict[str, Any]]:
    """Return the weights that one method selects, the processor time in minutes, and the validation results."""
    start = time.process_time()

    def describe(result: TrainingResult) -> dict[str, Any]:
        minutes = (time.process_time() - start) / 60
        candidates = result.candidates.in_order if result.candidates else ()
        epochs = [one for one in result.epochs if one.epoch == result.selected_epoch]
        return {
            "share": result.interpolation,
            "offsets": result.scaled_offsets,
            "candidates": [(one.interpolation, one.offset_scale, one.robust, one.robust_worst) for one in candidates],
            "epoch": [(one.epoch, one.validation_robust, one.validation_robust_worst) for one in epochs],
            "minutes": minutes,
        }

    return trainings.get(
        f"{name}-{spec.training.seed}-{name_spec(spec)}",
        lambda _checkpoint: train(base, data, spec, device=CPU, executors=Executors(1)),  # whose time counts here
        describe,
    )


def find_weakest(base: Classifier, data: LabelledImages, spec: AuditSpec) -> int:
    """Return the class that is least robust on these images, the first of equals."""
    classes = run_audit(base, data, spec, name="benchmark", device=CPU).report.classes
    return min(range(len(classes)), key=lambda number: classes[number].robust.rate)


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each method, sorted by its worst class. Of rows that two processes have added, the last counts."""
    rows = list({(row["method"], row["seed"]): row for row in rows}.values())
    given_row = next(row for row in rows if row["method"] == GIVEN)
    summaries = [summarise_method(name, rows, given_row) for name in dict.fromkeys(row["method"] for row in rows)]
    adjusted = adjust({_name_comparison(figures): figures["p"] for figures in summaries if "p" in figures})
    summaries = [
        {**figures, "p": adjusted[_name_comparison(figures)]} if "p" in figures else figures for figures in summaries
    ]
    return sorted(summaries, key=lambda figures: -figures["worst"])


def _name_comparison(figures: dict[str, Any]) -> str:
    """Return the numbers of a comparison, which are the same for methods with equal weights: these are one hypothesis."""
    return str((figures["behind"], figures["behind_interval"], figures["p"]))


def summarise_method(name: str, rows: list[dict[str, Any]], given_row: dict[str, Any]) -> dict[str, Any]:
    """Return means and standard deviations over the seeds, and by how much the worst class of the baseline exceeds its own.

    Args:
        given_row: of the given classifier, which has the labels and the class that is named in advance.
    """
    labels = np.frombuffer(bytes.fromhex(given_row["labels"]), np.uint16).astype(np.int64)
    own_rows = [row for row in rows if row["method"] == name]
    figures: dict[str, Any] = {"method": name, "seeds": len(own_rows)}
    for figure in FIGURES:
        values = [row[figure] for row in own_rows if figure in row]
        if values:
            figures[figure] = statistics.mean(values)
            figures[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    baseline = {row["seed"]: row for row in rows if row["method"] == BASELINE}
    pairs = [(baseline[row["seed"]], row) for row in own_rows if row["seed"] in baseline]
    if name == GIVEN:
        pairs = [(row, given_row) for row in baseline.values()]
    if name == BASELINE or not pairs:
        return figures
    one, other = (np.stack([unpack(pair[i]["robust"], len(labels)) for pair in pairs]) for i in (0, 1))
    if (one == other).all():
        return figures
    behind = compare_worst(labels, one, other, given_row["weakest"])
    return {**figures, "behind": behind.value, "behind_interval": [behind.low, behind.high], "p": behind.p_value}


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fairness.jsonl"))
    parser.add_argument("--quick", action="store_true", help="one seed, 200 training and 100 test images, PGD-2")
    parser.add_argument("--base", type=Path, default=Path(str(files("faal_core") / "bundled/classifier.safetensors")))
    parser.add_argument("--dataset", default="fashion-mnist-subset")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="0.1")
    parser.add_argument(
        "--images", type=int, help="training images, drawn from each class in proportion; all when absent"
    )
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--learning-rates", default="0.002,0.0002")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--attacks", default="fast", help="a preset, or attacks as a JSON list")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=10, help="steps of the training attack")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=METHODS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    """Run what is missing, print the table, then one JSON object."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        arguments.seeds, arguments.images, arguments.test_images, arguments.attacks = 1, 200, 100, QUICK_ATTACKS
    data, test = (load(arguments.dataset, part, root=arguments.root) for part in ("train", "test"))
    data = data if arguments.images is None else data.take(data.stratified(arguments.images, 0))
    test = test.take(test.stratified(arguments.test_images, 0))
    if int(test.counts.min()) < 2:
        raise SystemExit("Two test images of each class are needed, so that their rates can be compared.")
    base = read_classifier(arguments.base)
    settings = {
        "threat": {"epsilon": arguments.epsilon},
        "training": {
            "learning_rates": [float(rate) for rate in arguments.learning_rates.split(",")],
            "augment": arguments.augment,
            "attack": {"steps": 2 if arguments.quick else arguments.steps},
            "precision": arguments.precision,
            "validation_fraction": 0.2,
        },
        "attacks": json.loads(arguments.attacks) if arguments.attacks.startswith("[") else arguments.attacks,
    }
    results = ResultRows(arguments.out, [json.dumps(settings), data.sha256, test.sha256, digest(base)])
    of_trainings = [json.dumps([settings["threat"], settings["training"]]), data.sha256, digest(base)]
    trainings = StoredTrainings(arguments.out.with_suffix(f".{name_experiment(of_trainings)}"))
    spec = AuditSpec(threat=ThreatModel(epsilon=arguments.epsilon), attacks=settings["attacks"])
    rows = results.rows
    if not any(row["method"] == GIVEN for row in rows):
        quick_look = AuditSpec(threat=spec.threat, attacks=({"type": "apgd", "loss": "margin", "iterations": 20},))
        results.append(
            {
                "method": GIVEN,
                "seed": 0,
                "labels": test.labels.numpy().astype(np.uint16).tobytes().hex(),
                "weakest": find_weakest(base, data.take(data.stratified(min(2000, len(data)), 0)), quick_look),
                **find_rates(base, test, spec, rows),
            }
        )
    for seed in range(arguments.seeds):
        for name in arguments.only or METHODS:
            own_spec = make_spec(name, seed, settings)
            if not any((row["method"], row.get("spec")) == (name, name_spec(own_spec)) for row in rows):
                classifier, notes = fine_tune(name, own_spec, base, data, trainings)
                rates = find_rates(classifier, test, spec, rows)
                results.append({"method": name, "seed": seed, "spec": name_spec(own_spec), **rates, **notes})
    figures = summarise(rows)
    for row in figures:
        cells = [f"{row[name]:.1%} ± {row[f'{name}_sd']:.1%}" for name in ("clean", "mean", "tail_20", "worst")]
        low, high = row.get("behind_interval", (0, 0))
        difference = f"{row['behind']:+.1%} [{low:.1%}, {high:.1%}] (p {row['p']:.3f})" if "behind" in row else ""
        print(f"| {row['method']} | {' | '.join(cells)} | {difference} |")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(
        json.dumps({"benchmark": "fairness", **versions, "dataset": test.name, "settings": settings, "rows": figures})
    )


if __name__ == "__main__":
    main()
