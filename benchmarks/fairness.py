"""Which method makes the worst class more robust, and at what cost: every method from one base classifier, alike.

    python benchmarks/fairness.py [--out FILE] [--quick] [--base WEIGHTS] [--dataset NAME] [--root ROOT] [--epsilon E]
                                  [--images N] [--test-images N] [--attacks JSON] [--learning-rates A,B] [--augment A]
                                  [--precision P] [--seeds N] [--only NAME]… [--threads N]

Every method of `METHODS` fine-tunes the same base classifier on the same training images with the same learning rates,
attack and seeds, keeps the weights that did best on held-out training images by the default rule (the published method by
its own, but with the learning rates of all), and is audited on the same test images, which nothing was chosen on. FILE
gets a JSON line a run as it ends; the same command goes on after those, also beside others with another `--only`, and
prints the table of all: mean ± standard deviation over the seeds, and the difference of the worst class to that of the first
method with the p value of a paired t test over the seeds. The last line is JSON.
"""

import argparse
import hashlib
import json
import platform
import statistics
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from scipy.stats import ttest_rel

from faal_core.audit.run import audit
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.specs import AuditSpec, FinetuneSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.recipe import train
from faal_core.weights import digest, read_classifier

METHODS: dict[str, dict[str, Any]] = {
    "faal": {},
    "faal, preset paper": {"preset": "paper"},
    "faal-trades": {"method": {"type": "faal", "loss": "trades"}},
    "faal-awp": {"method": {"type": "faal"}, "training": {"weight_perturbation": {"weighted": True}}},
    "faal, no offsets": {"method": {"type": "faal", "class_offsets": False}},
    "uniform": {"method": {"type": "uniform"}},
    "uniform, offsets": {"method": {"type": "uniform", "class_offsets": True}},
    "frl": {"method": {"type": "frl"}},
    "cfa": {"method": {"type": "cfa"}},
    "wat": {"method": {"type": "wat"}},
    "dafa": {"method": {"type": "dafa"}},
    "cfol": {"method": {"type": "cfol"}},
}
FIRST = next(iter(METHODS))


def judged(classifier: Classifier, test: LabelledImages, spec: AuditSpec) -> dict[str, float]:
    """Accuracies on the test images, clean and under attack."""
    report = audit(classifier, test, spec, name="benchmark", device=torch.device("cpu")).report
    rates = sorted(row.robust.rate for row in report.classes)
    tail = rates[: -(-len(rates) // 5)]
    return {
        "clean": report.clean.mean.rate,
        "clean_worst": report.clean.worst.value,
        "mean": report.robust.mean.rate,
        "worst": rates[0],
        "tail_20": sum(tail) / len(tail),
    }


def run(
    name: str, seed: int, base: Classifier, data: LabelledImages, test: LabelledImages, asked: dict[str, Any]
) -> dict[str, Any]:
    """One method with one seed: its accuracies, its time, and what the held-out images said."""
    method = METHODS[name]
    training = {**asked["training"], **method.get("training", {}), "seed": seed}
    spec = FinetuneSpec.model_validate({**method, "threat": asked["threat"], "training": training})
    begun = time.monotonic()
    trained = train(base, data, spec, device=torch.device("cpu"))
    minutes = (time.monotonic() - begun) / 60
    kept = trained.epochs[trained.selected_epoch - 1]
    return {
        "method": name,
        "seed": seed,
        **judged(trained.classifier, test, AuditSpec(threat=spec.threat, attacks=asked["attacks"])),
        "share": trained.selected_share,
        "offsets": trained.class_offsets,
        "candidates": [(one.share, one.offsets, one.mean, one.worst) for one in trained.candidates],
        "epoch": (kept.epoch, kept.held_out_mean, kept.held_out_worst),
        "minutes": minutes,
    }


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a method, by its worst class."""
    first = {row["seed"]: row["worst"] for row in rows if row["method"] == FIRST}
    found = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        figures: dict[str, Any] = {"method": name, "seeds": len(own)}
        for figure in ("clean", "mean", "worst", "tail_20", "minutes"):
            values = [row[figure] for row in own if figure in row]
            if values:
                figures[figure] = statistics.mean(values)
                figures[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
        pairs = [(row["worst"], first[row["seed"]]) for row in own if row["seed"] in first]
        if name != FIRST and len(pairs) > 1:
            figures["against_first"] = statistics.mean(mine - other for mine, other in pairs)
            alike = all(mine == other for mine, other in pairs)
            figures["p"] = 1.0 if alike else float(ttest_rel(*zip(*pairs, strict=True)).pvalue)
        found.append(figures)
    return sorted(found, key=lambda figures: -figures["worst"])


def main() -> None:
    """Makes the runs that are missing, prints the table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fairness.jsonl"))
    parser.add_argument("--quick", action="store_true", help="one seed, 600 training and 300 test images, PGD-2")
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
    parser.add_argument("--steps", type=int, default=10, help="of the attack in training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=METHODS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.quick:
        asked.seeds, asked.images, asked.test_images = 1, 600, 300
    data, test = (load(asked.dataset, part, root=asked.root) for part in ("train", "test"))
    data = data if asked.images is None else data.take(data.stratified(asked.images, 0))
    test = test.take(test.stratified(asked.test_images, 0))
    base = read_classifier(asked.base)
    settings = {
        "threat": {"epsilon": asked.epsilon},
        "training": {
            "learning_rates": [float(rate) for rate in asked.learning_rates.split(",")],
            "augment": asked.augment,
            "attack": {"steps": 2 if asked.quick else asked.steps},
            "precision": asked.precision,
            "held_out_share": 0.2,
        },
        "attacks": json.loads(asked.attacks) if asked.attacks.startswith("[") else asked.attacks,
    }
    subject = [json.dumps(settings), data.sha256, test.sha256, digest(base)]
    of = hashlib.sha256("\n".join(subject).encode()).hexdigest()[:16]
    asked.out.touch()
    rows = [row for row in map(json.loads, asked.out.read_text().splitlines()) if row["of"] == of]
    done = {(row["method"], row["seed"]) for row in rows}

    def keep(row: dict[str, Any]) -> None:
        row = {"of": of, **row}
        rows.append(row)
        with asked.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    if ("before", 0) not in done:
        spec = AuditSpec(threat=ThreatModel(epsilon=asked.epsilon), attacks=settings["attacks"])
        keep({"method": "before", "seed": 0, **judged(base, test, spec)})
    for seed in range(asked.seeds):
        for name in asked.only or METHODS:
            if (name, seed) not in done:
                keep(run(name, seed, base, data, test, settings))
    figures = table(rows)
    for row in figures:
        cells = [f"{row[name]:.1%} ± {row[f'{name}_sd']:.1%}" for name in ("clean", "mean", "tail_20", "worst")]
        against = f"{row['against_first']:+.1%} (p {row['p']:.2f})" if "p" in row else ""
        print(f"| {row['method']} | {' | '.join(cells)} | {against} |")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": asked.threads}
    print(
        json.dumps({"benchmark": "fairness", **versions, "dataset": test.name, "settings": settings, "rows": figures})
    )


if __name__ == "__main__":
    main()
