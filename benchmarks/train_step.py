"""What weighing the classes costs: a FAAL step beside the same step with uniform weights (`method: {"type": "uniform"}`).

    python benchmarks/train_step.py [--quick] [--threads N]

Steps of both alternate on the same batches and the same network, which is left as it was (learning rate 0), so that
both do the same work; `ratio` is the median over pairs. Beside it `share`: the time of the class weights alone, as a
share of the uniform step, which noise of the machine hardly touches. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time

import torch

from faal_core.architectures import build
from faal_core.specs import ClassifierSpec, FinetuneSpec, TrainingAttack, TrainingSpec, UniformMethod
from faal_core.threat_model import ThreatModel
from faal_core.training.methods import build as build_method
from faal_core.training.methods.faal import class_weights
from faal_core.training.recipe import training_step

NETWORKS = {
    "small_resnet": (ClassifierSpec(architecture="small_resnet", num_classes=10), (1, 28, 28), 128, 0.1, 31),
    "preact_resnet18": (
        ClassifierSpec(architecture="preact_resnet18", num_classes=10, mean=(0.5,) * 3, std=(0.25,) * 3),
        (3, 32, 32),
        32,
        8 / 255,
        9,
    ),
}


def measure(name: str, *, quick: bool) -> dict[str, object]:
    """Seconds a step with and without class weights, and the median of their paired ratios."""
    spec, shape, batch_size, epsilon, pairs = NETWORKS[name]
    pairs = 3 if quick else pairs
    classifier = build(spec).place(torch.device("cpu"))
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0)
    training = TrainingSpec(batch_size=batch_size, attack=TrainingAttack())
    faal = FinetuneSpec(threat=ThreatModel(epsilon=epsilon), training=training)
    uniform = faal.model_copy(update={"method": UniformMethod()})
    methods = {spec.method.type: build_method(spec.method, 10) for spec in (faal, uniform)}
    generator = torch.Generator().manual_seed(0)
    x = classifier.lay_out(torch.rand(batch_size, *shape, generator=generator))
    y = torch.randint(10, (batch_size,), generator=generator)

    def seconds(spec: FinetuneSpec) -> float:
        begun = time.perf_counter()
        training_step(classifier, optimizer, methods[spec.method.type], x, y, spec, generator)
        return time.perf_counter() - begun

    seconds(faal), seconds(uniform)
    rows = []
    for i in range(pairs):
        plain_first = i % 2
        plain = seconds(uniform) if plain_first else 0.0
        weighted = seconds(faal)
        rows.append((weighted, plain if plain_first else seconds(uniform)))
    with torch.no_grad():
        logits = classifier(x)
    alone = []
    for _ in range(200):
        begun = time.perf_counter()
        class_weights(logits, y, faal.method)
        alone.append(time.perf_counter() - begun)
    uniform_seconds = statistics.median(plain for _, plain in rows)
    return {
        "network": name,
        "batch_size": batch_size,
        "attack_steps": 10,
        "pairs": pairs,
        "faal_ms": round(statistics.median(row[0] for row in rows) * 1e3, 2),
        "uniform_ms": round(uniform_seconds * 1e3, 2),
        "ratio": round(statistics.median(weighted / plain for weighted, plain in rows), 4),
        "share": round(statistics.median(alone) / uniform_seconds, 6),
    }


def main() -> None:
    """Prints a line a network, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = [measure(name, quick=arguments.quick) for name in NETWORKS]
    for row in figures:
        times = f"{row['faal_ms']} ms against {row['uniform_ms']} ms"
        print(f"{row['network']}: {times}, ratio {row['ratio']}, share {row['share']:.3%}")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "train_step", "machine": platform.machine(), **versions, "rows": figures}))


if __name__ == "__main__":
    main()
