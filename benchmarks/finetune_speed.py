"""Measure the time of a fine-tuning step and of its parts: the attack, the class weights, the rest; for 10 and 100 classes.

    python benchmarks/finetune_speed.py [--quick] [--threads N]

Steps with FAAL's weights and with uniform weights alternate on the same batches. The learning rate is 0, so the network stays
the same. `ratio` is the median over pairs. `bfloat16` is the same for a FAAL step in float32 to one in bfloat16; CPUs without
bfloat16 instructions are slower with it. `attack` and `dro` are timed alone on the same batch, as fractions of the FAAL step.
`epoch_s` is the time of 50,000 images. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from faal_core.devices import Pieces
from faal_core.networks import build
from faal_core.specs import ClassifierSpec, FaalMethod, FinetuneSpec, TrainingSpec, UniformMethod
from faal_core.threat_model import ThreatModel
from faal_core.training import methods
from faal_core.training.inner_maximum import perturb, start_attack
from faal_core.training.methods.faal import worst_case_class_weights
from faal_core.training.step import training_step

NORMALISATION = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
CASES = {
    "small_resnet, 10 classes": ({"architecture": "small_resnet", "num_classes": 10}, (1, 28, 28), 128, 0.1, 31),
    "small_resnet, 100 classes": ({"architecture": "small_resnet", "num_classes": 100}, (1, 28, 28), 128, 0.1, 31),
    "preact_resnet18, 10 classes": (
        {"architecture": "preact_resnet18", "num_classes": 10, **NORMALISATION},
        (3, 32, 32),
        128,
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
    network, shape, batch_size, epsilon, pairs = CASES[name]
    pairs = min(pairs, 2) if quick else pairs
    classifier = build(ClassifierSpec.model_validate(network)).place(torch.device("cpu"))
    classes = classifier.num_classes
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0)
    threat, generator = ThreatModel(epsilon=epsilon), torch.Generator().manual_seed(0)
    faal, uniform = (FinetuneSpec(threat=threat, method=method) for method in (FaalMethod(), UniformMethod()))
    half = FinetuneSpec(threat=threat, training=TrainingSpec(precision="bfloat16"))
    x = classifier.lay_out(torch.rand(batch_size, *shape, generator=generator))
    y = torch.randint(classes, (batch_size,), generator=generator)

    def step(spec: FinetuneSpec) -> float:
        method = methods.build(spec.method, classes)
        return measure_seconds(
            lambda: training_step(classifier, optimizer, method, x, y, spec, generator, Pieces(batch_size))
        )

    def attack() -> torch.Tensor:
        classifier.eval()
        batch = start_attack(x, y, torch.ones(batch_size), faal, generator)
        return perturb(classifier, batch, faal, batch_size)

    step(faal)
    step(half)
    method_pairs = [(step(faal), step(uniform)) if i % 2 else (step(uniform), step(faal))[::-1] for i in range(pairs)]
    precision_pairs = [(step(faal), step(half)) if i % 2 else (step(half), step(faal))[::-1] for i in range(pairs)]
    with torch.no_grad():
        logits = classifier(x)
    step_seconds = statistics.median(weighted for weighted, _ in method_pairs)
    dro = statistics.median(
        measure_seconds(lambda: worst_case_class_weights(logits, y, FaalMethod())) for _ in range(200)
    )
    return {
        "case": name,
        "batch_size": batch_size,
        "pairs": pairs,
        "step_ms": round(step_seconds * 1e3, 1),
        "ratio": round(statistics.median(weighted / plain for weighted, plain in method_pairs), 4),
        "bfloat16": round(statistics.median(full / less for full, less in precision_pairs), 4),
        "attack": round(statistics.median(measure_seconds(attack) for _ in range(pairs)) / step_seconds, 4),
        "dro": round(dro / step_seconds, 6),
        "epoch_s": round(step_seconds * 50_000 / batch_size, 1),
    }


def main() -> None:
    """Print a line for each case, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [measure(name, quick=arguments.quick) for name in CASES]
    for row in rows:
        parts = f"attack {row['attack']:.1%}, class weights {row['dro']:.3%}"
        print(
            f"{row['case']}: {row['step_ms']} ms a step ({parts}); {row['ratio']} × uniform; "
            f"bfloat16 {row['bfloat16']} × as fast; {row['epoch_s']} s an epoch"
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "finetune_speed", "machine": platform.machine(), **versions, "rows": rows}))


if __name__ == "__main__":
    main()
