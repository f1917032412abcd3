"""The benchmarks: all can be imported, and the parts of the one for GPUs work in small on a CPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import fairness, gpu, train_base
from benchmarks.stored_trainings import StoredTrainings
from benchmarks.worst_class_test import pack
from faal_core.datasets import load
from faal_core.networks import build
from faal_core.progress import Cancelled
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import digest
from scripts import write_results

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    """Every module that a benchmark imports exists, and has the names that it takes from there."""
    assert importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(("epochs", "peak"), [(1, 0), (2, 0), (5, 1), (15, 5)])
def test_the_learning_rate_rises_for_two_fifths_of_the_epochs(epochs: int, peak: int) -> None:
    """The rates form a triangle whose peak is 0.2, and no rate is 0."""
    rates = train_base.make_learning_rates(epochs)
    assert len(rates) == epochs
    assert rates[peak] == max(rates) == pytest.approx(0.2)
    assert list(rates[: peak + 1]) == sorted(rates[: peak + 1])
    assert list(rates[peak:]) == sorted(rates[peak:], reverse=True)
    assert min(rates) > 0


def test_a_finished_part_is_not_computed_again(tmp_path: Path) -> None:
    """A part that failed is computed again by the next run, a finished one is read from the file."""
    experiment = gpu.make_quick_experiment(tmp_path, CPU)

    def fail() -> dict[str, object]:
        raise Cancelled

    with pytest.raises(Cancelled):
        experiment.run_once("fast", "base", fail)
    row = experiment.run_once("fast", "base", lambda: {"mean": 0.5})
    assert row["mean"] == 0.5
    assert experiment.run_once("fast", "base", fail) == row
    with pytest.raises(Cancelled):
        experiment.run_once("fast", "faal", fail)


def test_tables_have_a_row_for_each_classifier(tmp_path: Path) -> None:
    """Rates are in percent; a part without results has no table."""
    rates = {"clean": 0.9, "clean_worst": 0.8, "mean": 0.5, "tail_20": 0.25, "worst": 0.125}
    rows = [
        {"part": "training", "classifier": "base", "images": 200, "seconds": 3.5},
        *({"part": "fast", "classifier": name, "images": 20, "seconds": 2.0, **rates} for name in ("base", "faal")),
    ]
    text = gpu.write_tables(gpu.make_quick_experiment(tmp_path, CPU), rows)
    assert "| base | 200 | 3.5 |" in text
    assert "| faal | 90.0% | 80.0% | 50.0% | 25.0% | 12.5% | 2.0 |" in text
    assert "standard" not in text
    assert (tmp_path / "tables.md").read_text() == text


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_in_small_and_resumes(tmp_path: Path) -> None:
    """All parts run on a CPU; after a run that ended early, the same command computes only the missing rows."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    results = tmp_path / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True)
    parts = [(row["part"], row["classifier"]) for row in map(json.loads, lines)]
    standard = [("standard", name) for name in ("base", "faal")]
    assert {("training", "base"), ("training", "faal"), ("fast", "uniform"), *standard} <= set(parts)
    results.write_text("".join(lines[:-2]))
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert results.read_text().splitlines(keepends=True)[:-2] == lines[:-2]
    rows = json.loads(answer.stdout.splitlines()[-1])["rows"]
    assert [(row["part"], row["classifier"]) for row in rows] == parts


def test_equal_weights_are_audited_once() -> None:
    """A method that kept the original has the rates of the earlier row with the same weights, and others have none of them."""
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    images = load("fashion-mnist-subset", "test")
    some = images.take(images.stratified(20, 0))
    spec = AuditSpec.model_validate({"threat": {"epsilon": 0.01}, "attacks": [{"type": "pgd", "steps": 1}]})
    first = fairness.find_rates(classifier, some, spec, [])
    marked = {**first, "mean": -1.0}
    assert fairness.find_rates(classifier, some, spec, [marked]) == marked
    assert fairness.find_rates(classifier, some, spec, [{**marked, "sha256": "other"}]) == first


def test_the_name_of_a_training_tells_all_its_settings() -> None:
    """Two methods, seeds, radii, or learning rates have different names, and equal ones the same."""
    settings = {"threat": {"epsilon": 0.1}, "training": {"learning_rates": [0.1]}}
    others = [{**settings, "threat": {"epsilon": 0.2}}, {**settings, "training": {"learning_rates": [0.2]}}]
    specs = [fairness.make_spec(*pair, settings) for pair in (("faal", 0), ("faal", 1), ("head", 0), ("decosam", 0))]
    specs += [fairness.make_spec("faal", 0, other) for other in others]
    names = [fairness.name_spec(spec) for spec in specs]
    assert len(set(names)) == len(names)
    assert fairness.name_spec(fairness.make_spec("faal", 0, settings)) == names[0]


def test_a_row_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of two processes and methods with equal weights count once, and a file with two experiments makes no table."""
    flags = pack(np.arange(8) < 4)
    rates = dict.fromkeys(("clean", "mean", "worst", "tail_20"), 0.5) | {"robust": flags, "of": "a"}
    labels = np.arange(8).astype(np.uint16).clip(max=1).tobytes().hex()
    given = {"method": fairness.GIVEN, "seed": 0, "labels": labels, "weakest": 0, **rates}
    ours = rates | {"robust": pack(np.arange(8) < 5)}
    rows = [given, {"method": "faal", "seed": 0, **ours}, {"method": "faal", "seed": 0, **ours}]
    monkeypatch.setattr(write_results, "ROOT", tmp_path)
    file = tmp_path / "benchmarks/results/some.jsonl"
    file.parent.mkdir(parents=True)
    with pytest.raises(ValueError, match="fewer than two"):
        fairness.summarise(rows)
    given["labels"] = (np.arange(8) % 2).astype(np.uint16).tobytes().hex()
    assert [row["seeds"] for row in fairness.summarise(rows)] == [1, 1]
    (p_value,) = [row["p"] for row in fairness.summarise(rows) if "p" in row]
    twins = [{"method": "uniform", "seed": 0, **rates}, {"method": "head", "seed": 0, **ours}]
    assert [row.get("p") for row in fairness.summarise([*rows, *twins])] == [p_value, None, p_value, None]
    file.write_text("\n".join(json.dumps(row) for row in [*rows, {**rows[1], "of": "b"}]), "utf-8")
    with pytest.raises(ValueError, match="or several"):
        write_results.result_table("some")


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    """The weights and notes of a training come from the folder once it has them, also in another process."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(100, 0))
    base = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    fields = {"learning_rates": [0.1], "attack": {"steps": 1}, "validation_fraction": 0}
    spec = FinetuneSpec.model_validate(
        {
            "threat": {"epsilon": 0.1},
            "method": {"type": "uniform"},
            "training": fields | {"max_clean_drop": None, "max_robust_drop": None},
        }
    )

    def run(checkpoint: Path) -> TrainingResult:
        return train(base, data, spec, device=CPU, checkpoint=checkpoint)

    def refuse(_: Path) -> TrainingResult:
        pytest.fail("it was trained again")

    classifier, notes = StoredTrainings(tmp_path / "new").get(
        "uniform, 0", run, lambda result: {"epochs": len(result.epochs)}
    )
    again, same_notes = StoredTrainings(tmp_path / "new").get("uniform, 0", refuse, lambda _: {})
    assert notes == same_notes == {"epochs": 1}
    assert digest(classifier) == digest(again) != digest(base)
