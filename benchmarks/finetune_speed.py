"""Measure the time of a fine-tuning step and of its parts: the attack, the class weights, the rest; for 10 and 100 classes.

    python benchmarks/finetune_speed.py [--quick] [--threads N]

Steps of five kinds take turns on the same batch; figures are medians of their ratios. `ratio` is FAAL's weights to uniform ones.
`threads` compares an attack whose threads share every operation with one whose threads compute images of their own, as FAAL
does. `bfloat16` and `bfloat16_attack` compare float32 with bfloat16, in the step and in its attack alone. `both` is the gain of
threads and of an attack in bfloat16. CPUs without bfloat16 instructions are slower with it. The learning rate is 0, so the
network stays the same. `attack` and `dro` are timed alone on the same batch, as fractions of the FAAL step. `epoch_s` is the
time of 50,000 images. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import torch

from faal_core.datasets import LabelledImages
from faal_core.devices import Pieces
from faal_core.networks import build
from faal_core.specs import ClassifierSpec, FaalMethod, FinetuneSpec
from faal_core.threat_model import ThreatModel
from faal_core.training import methods
from faal_core.training.cells import use_classes
from faal_core.training.inner_maximum import perturb, start_attack
from faal_core.training.methods.faal import worst_case_class_weights
from faal_core.training.row_split import RowSplit
from faal_core.training.run import TrainingRun
from faal_core.training.step import training_step

CPU = torch.device("cpu")
NORMALISATION = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
CASES = {
    "small_resnet, 10 classes": ({"architecture": "small_resnet", "num_classes": 10}, (1, 28, 28), 0.1, 31),
    "small_resnet, 100 classes": ({"architecture": "small_resnet", "num_classes": 100}, (1, 28, 28), 0.1, 31),
    "preact_resnet18, 10 classes": (
        {"architecture": "preact_resnet18", "num_classes": 10, **NORMALISATION},
        (3, 32, 32),
        8 / 255,
        5,
    ),
}


def measure_seconds(work: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, *, quick: bool) -> dict[str, object]:
    """Return medians of the step and its parts."""
    network, shape, epsilon, pairs = CASES[name]
    batch_size, steps, pairs = (16, 2, 1) if quick else (128, 10, pairs)
    classifier = build(ClassifierSpec.model_validate(network)).place(CPU)
    classes = classifier.num_classes
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0)
    threat, generator = ThreatModel(epsilon=epsilon), torch.Generator().manual_seed(0)
    faal, uniform, half, half_attack = (
        FinetuneSpec.model_validate(
            {
                "threat": threat,
                "method": {"type": method},
                "training": {"precision": precision, "attack": {"steps": steps, "precision": attack_precision}},
            }
        )
        for method, precision, attack_precision in (
            ("faal", "float32", "float32"),
            ("uniform", "float32", "float32"),
            ("faal", "bfloat16", "bfloat16"),
            ("faal", "float32", "bfloat16"),
        )
    )
    x = classifier.lay_out(torch.rand(batch_size, *shape, generator=generator))
    y = torch.randint(classes, (batch_size,), generator=generator)
    names, labels = tuple(map(str, range(classes))), torch.arange(classes)
    data = LabelledImages(torch.zeros(classes, *shape, dtype=torch.uint8), labels, names, "blank", "train")
    batch = start_attack(x, y, torch.ones(batch_size), faal, generator)

    def step(spec: FinetuneSpec) -> float:
        rows = RowSplit(labels, torch.arange(0))
        run = TrainingRun(
            spec=spec, data=data, cells=use_classes(data), rows=rows, device=CPU, pieces=Pieces(batch_size)
        )
        method = methods.build(spec.method, classes)
        return measure_seconds(lambda: training_step(classifier, optimizer, method, batch, run))

    def step_without_threads() -> float:
        hook = classifier.register_forward_hook(lambda *_: None)  # because of it, images pass one after another
        seconds = step(faal)
        hook.remove()
        return seconds

    def attack() -> torch.Tensor:
        classifier.eval()
        return perturb(classifier, batch, faal, batch_size)

    others = {
        "uniform": lambda: step(uniform),
        "without_threads": step_without_threads,
        "bfloat16": lambda: step(half),
        "bfloat16_attack": lambda: step(half_attack),
    }
    for warm_up in others.values():
        warm_up()
    rounds = [{"faal": step(faal), **{other: work() for other, work in others.items()}} for _ in range(pairs)]
    with torch.no_grad():
        logits = classifier(x)
    step_seconds = statistics.median(seconds["faal"] for seconds in rounds)
    dro = statistics.median(
        measure_seconds(lambda: worst_case_class_weights(logits, y, FaalMethod())) for _ in range(200)
    )

    def ratio(slow: str, fast: str) -> float:
        return round(statistics.median(seconds[slow] / seconds[fast] for seconds in rounds), 4)

    return {
        "case": name,
        "batch_size": batch_size,
        "pairs": pairs,
        "step_ms": round(step_seconds * 1e3, 1),
        "ratio": ratio("faal", "uniform"),
        "threads": ratio("without_threads", "faal"),
        "bfloat16": ratio("faal", "bfloat16"),
        "bfloat16_attack": ratio("faal", "bfloat16_attack"),
        "both": ratio("without_threads", "bfloat16_attack"),
        "attack": round(statistics.median(measure_seconds(attack) for _ in range(pairs)) / step_seconds, 4),
        "dro": round(dro / step_seconds, 6),
        "epoch_s": round(step_seconds * 50_000 / batch_size, 1),
    }


def main() -> None:
    """Print a line for each case, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of steps with PGD-2 on 16 images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [measure(name, quick=arguments.quick) for name in CASES]
    for row in rows:
        parts = f"attack {row['attack']:.1%}, class weights {row['dro']:.3%}"
        print(
            f"{row['case']}: {row['step_ms']} ms a step ({parts}); {row['ratio']} × uniform; "
            f"threads {row['threads']} × as fast, bfloat16 {row['bfloat16']} ×, in the attack alone {row['bfloat16_attack']} ×, "
            f"this with threads {row['both']} ×; {row['epoch_s']} s an epoch"
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "finetune_speed", "machine": platform.machine(), **versions, "rows": rows}))


if __name__ == "__main__":
    main()
