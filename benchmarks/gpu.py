"""Train, fine-tune and audit a PreActResNet-18 on one GPU, and write the tables. Meant for about ten minutes of a recent GPU.

    python -m benchmarks.gpu --dataset cifar10 --root FOLDER [--out FOLDER] [--device D] [--epochs N] [--images N]
                             [--test-images N] [--standard-images N] [--quick]

`benchmarks/train_base.py` trains the base classifier from random weights. Each of `METHODS` fine-tunes it on `--images` images
with PGD-10 in bfloat16. `fast` audits every classifier on the same test images, `standard` the base and FAAL's on the first of
them. FOLDER gets the weights, `results.jsonl` with a line for each finished part, and `tables.md`. The same command resumes an
interrupted run: finished parts are not repeated, and trainings resume from their checkpoints. `--dataset` also takes the path
of an .npz archive or of a folder of images. `--quick` runs every part in small, with bundled images, on any CPU. The last line
is JSON.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fairness import METHODS as ALL_METHODS
from benchmarks.fairness import measure_rates
from benchmarks.train_base import new_network, train_base
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.devices import find_device, peak_bytes
from faal_core.specs import AuditSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.weights import read_classifier, write_classifier

METHODS = ("faal", "faal, preset paper", "uniform", "uniform, offsets", "frl", "cfa", "wat", "dafa")
STANDARD = ("base", "faal")  # an audit with `standard` takes some twenty times as long as one with `fast`
FIGURES = ("clean", "clean_worst", "mean", "tail_20", "worst")


@dataclass(frozen=True)
class Experiment:
    """The inputs of a run, and its folder, in which the same experiment resumes."""

    out: Path
    device: torch.device
    data: LabelledImages
    test: LabelledImages
    architecture: str = "preact_resnet18"
    epsilon: str = "8/255"
    epochs: int = 15
    images: int = 10_000
    standard_images: int = 200
    batch_size: int = 128
    steps: int = 10
    methods: tuple[str, ...] = METHODS

    @property
    def identity(self) -> str:
        """Return a digest of everything that a result depends on, apart from the device."""
        numbers = (self.epochs, self.images, self.standard_images, self.batch_size, self.steps)
        parts = (self.architecture, self.epsilon, *numbers, self.data.sha256, self.test.sha256)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]

    def run_once(self, part: str, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of that part for the classifier of that name; compute and store it unless an earlier run has."""
        results = self.out / "results.jsonl"
        results.touch()
        key = {"of": self.identity, "part": part, "classifier": name}
        for row in map(json.loads, results.read_text().splitlines()):
            if key.items() <= row.items():
                return dict(row)
        start = time.monotonic()
        row = key | compute()
        row["seconds"] = round(time.monotonic() - start, 1)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row


def make_base(experiment: Experiment) -> Classifier:
    """Return the base classifier, which an earlier run may have trained."""
    weights = experiment.out / f"base-{experiment.identity}.safetensors"

    def compute() -> dict[str, Any]:
        checkpoint = weights.with_suffix(".training")
        result = train_base(
            new_network(experiment.data, experiment.architecture, {}),
            experiment.data,
            experiment.epsilon,
            experiment.epochs,
            device=experiment.device,
            checkpoint=checkpoint,
            batch_size=experiment.batch_size,
        )
        write_classifier(weights, result.classifier)
        checkpoint.unlink()
        return {"epochs": experiment.epochs, "images": len(experiment.data), "loss": result.epochs[-1].loss}

    experiment.run_once("training", "base", compute)
    return read_classifier(weights)


def finetune(experiment: Experiment, base: Classifier, name: str) -> Classifier:
    """Return the classifier that the method of that name made of the base, in this run or in an earlier one."""
    weights = experiment.out / f"{name.replace(', ', '-').replace(' ', '-')}-{experiment.identity}.safetensors"

    def compute() -> dict[str, Any]:
        method, rows = ALL_METHODS[name], experiment.data.stratified(experiment.images, 0)
        training = {
            "attack": {"steps": experiment.steps},
            "augment": "crop-flip",
            "precision": "bfloat16",
            "validation_fraction": 0.2,
            "batch_size": experiment.batch_size,
        }
        fields = {
            **method,
            "threat": {"epsilon": experiment.epsilon},
            "training": training | method.get("training", {}),
        }
        checkpoint = weights.with_suffix(".training")
        spec, data = FinetuneSpec.model_validate(fields), experiment.data.take(rows)
        result = train(base, data, spec, device=experiment.device, checkpoint=checkpoint)
        write_classifier(weights, result.classifier)
        checkpoint.unlink(missing_ok=True)
        return {"images": len(rows), "interpolation": result.interpolation}

    experiment.run_once("training", name, compute)
    return read_classifier(weights)


def audit(experiment: Experiment, classifier: Classifier, name: str) -> None:
    """Audit the classifier with `fast`; with `standard` and again with `fast`, on fewer images, where it is in `STANDARD`."""
    few = experiment.test.take(experiment.test.stratified(experiment.standard_images, 0))
    audits = [("fast", "fast", experiment.test)]
    audits += [("standard", "standard", few), ("fast beside standard", "fast", few)] if name in STANDARD else []
    for part, attacks, test in audits:
        spec = AuditSpec.model_validate({"threat": {"epsilon": experiment.epsilon}, "attacks": attacks})

        def compute(test: LabelledImages = test, spec: AuditSpec = spec) -> dict[str, Any]:
            return {"images": len(test), **measure_rates(classifier, test, spec, experiment.device)}

        experiment.run_once(part, name, compute)


def write_tables(experiment: Experiment, rows: list[dict[str, Any]]) -> str:
    """Return the tables of the rows in Markdown, in percent, and write them to `tables.md`."""
    lines = ["# One GPU", "", f"{describe_machine(experiment.device)}. Experiment {experiment.identity}.", ""]
    for part in dict.fromkeys(row["part"] for row in rows if "worst" in row):
        own_rows = [row for row in rows if row["part"] == part]
        lines += [f"## {part}, {own_rows[0]['images']} images", ""]
        lines += [f"| classifier | {' | '.join(FIGURES)} | seconds |", f"|{' --- |' * (len(FIGURES) + 2)}"]
        for row in own_rows:
            cells = " | ".join(f"{row[figure]:.1%}" for figure in FIGURES)
            lines += [f"| {row['classifier']} | {cells} | {row['seconds']} |"]
        lines += [""]
    lines += ["## Training", "", "| classifier | images | seconds |", "| --- | --- | --- |"]
    trainings = [row for row in rows if row["part"] == "training"]
    lines += [f"| {row['classifier']} | {row['images']} | {row['seconds']} |" for row in trainings]
    text = "\n".join(lines) + "\n"
    (experiment.out / "tables.md").write_text(text)
    return text


def describe_machine(device: torch.device) -> str:
    """Return the name of the device and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def run(experiment: Experiment) -> list[dict[str, Any]]:
    """Run what is missing, and return all rows of the experiment."""
    base = make_base(experiment)
    audit(experiment, base, "base")
    for name in experiment.methods:
        audit(experiment, finetune(experiment, base, name), name)
    rows = map(json.loads, (experiment.out / "results.jsonl").read_text().splitlines())
    return [row for row in rows if row["of"] == experiment.identity]


def make_quick_experiment(out: Path, device: torch.device) -> Experiment:
    """Return an experiment of seconds on a CPU, with bundled images."""
    data, test = (load("fashion-mnist-subset", part) for part in ("train", "test"))
    data, test = data.take(data.stratified(200, 0)), test.take(test.stratified(20, 0))
    return Experiment(
        out,
        device,
        data,
        test,
        architecture="small_resnet",
        epsilon="0.1",
        epochs=1,
        images=100,
        standard_images=10,
        batch_size=50,
        steps=1,
        methods=("faal", "uniform"),
    )


def main() -> None:
    """Run the experiment, print the tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--root", type=Path, help="folder of named data sets")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epsilon", default=Experiment.epsilon)
    parser.add_argument("--epochs", type=int, default=15, help="of the base classifier")
    parser.add_argument("--images", type=int, default=10_000, help="that each method trains and validates on")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--standard-images", type=int, default=200, help="that `standard` audits")
    parser.add_argument("--quick", action="store_true", help="every part in small, with bundled images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device, start = find_device(arguments.device), time.monotonic()
    if arguments.quick:
        experiment = make_quick_experiment(arguments.out, device)
    else:
        data, test = (load(arguments.dataset, part, root=arguments.root) for part in ("train", "test"))
        test = test.take(test.stratified(arguments.test_images, 0))
        names = ("epsilon", "epochs", "images", "standard_images")
        experiment = Experiment(arguments.out, device, data, test, **{name: getattr(arguments, name) for name in names})
    rows = run(experiment)
    print(write_tables(experiment, rows))
    memory = {"minutes": (time.monotonic() - start) / 60, "peak_bytes": peak_bytes()}
    print(json.dumps({"benchmark": "gpu", "machine": describe_machine(device), **memory, "rows": rows}))


if __name__ == "__main__":
    main()
