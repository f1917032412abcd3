"""Measure an audit with the preset `standard` beside its passes alone: the same batches, forward and backward, without an attack.

    python benchmarks/standard_floor.py [--quick] [--images N] [--pairs N] [--weights FILE] [--dataset NAME] [--epsilon E]

A hook records the number of images and the need of a gradient of each pass of an audit. Then these passes are repeated on the
audited images, and audits and repetitions alternate. `ratio` is the median over pairs of the audit's seconds over those of its
passes. `parts` are the audit's seconds by attack. One thread, one process, no certified images. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from faal_core import datasets
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator, freeze_weights
from faal_core.auditing.parallelism import choose_batch_size
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.ledger import Ledger
from faal_core.specs import AuditSpec
from faal_core.weights import read_classifier

BUNDLED = Path(__file__).resolve().parents[1] / "faal_core/bundled/classifier.safetensors"
Pass = tuple[int, bool]


def audit(evaluator: Evaluator, spec: AuditSpec) -> tuple[float, dict[str, float], list[Pass]]:
    """Return the seconds of an audit, the seconds of each attack, and the passes."""
    passes: list[Pass] = []
    hook = evaluator.classifier.register_forward_pre_hook(
        lambda _, inputs: passes.append((len(inputs[0]), inputs[0].requires_grad))
    )
    start = time.perf_counter()
    ledger = Ledger(None, "", batch_size=choose_batch_size(evaluator))
    _, table = evaluate(evaluator, spec.threat, spec.attacks, NoProgress(), ledger)
    seconds = time.perf_counter() - start
    hook.remove()
    return seconds, {row.name: round(row.seconds, 2) for row in table}, passes


def repeat(classifier: Classifier, x: torch.Tensor, passes: list[Pass]) -> float:
    """Return the seconds of the passes alone."""
    parts = {size: classifier.lay_out(x[:size]) for size, _ in passes}
    start = time.perf_counter()
    with freeze_weights(classifier):
        for size, needs_gradient in passes:
            if needs_gradient:
                images = parts[size].detach().requires_grad_()
                torch.autograd.grad(classifier(images).sum(), images)
            else:
                with torch.no_grad():
                    classifier(parts[size])
    return time.perf_counter() - start


def measure(classifier: Classifier, data: LabelledImages, spec: AuditSpec, pairs: int) -> dict[str, object]:
    """Return the medians of alternating audits and repetitions of their passes."""
    evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=spec.batch_size, seed=spec.seed)
    x, audits, alone = evaluator.pixels(torch.arange(len(data))), [], []
    for _ in range(pairs):
        seconds, parts, passes = audit(evaluator, spec)
        audits.append(seconds)
        alone.append(repeat(classifier, x, passes))
    return {
        "images": len(data),
        "pairs": pairs,
        "ratio": round(statistics.median(whole / floor for whole, floor in zip(audits, alone, strict=True)), 3),
        "audit_s": round(statistics.median(audits), 2),
        "passes_s": round(statistics.median(alone), 2),
        "forward": sum(size for size, _ in passes),
        "backward": sum(size for size, needs_gradient in passes if needs_gradient),
        "parts": parts,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 images, 300 queries of Square, one pair")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=BUNDLED)
    parser.add_argument("--dataset", default="fashion-mnist-subset")
    parser.add_argument("--epsilon", default="0.1")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    attacks: object = "standard"
    if arguments.quick:
        arguments.images, arguments.pairs = 10, 1
        attacks = [
            {"type": "apgd", "iterations": 10},
            {"type": "apgd", "loss": "dlr", "targets": 2, "iterations": 10},
            {"type": "fab", "targets": 2, "iterations": 10},
            {"type": "square", "queries": 300},
        ]
    spec = AuditSpec.model_validate({"threat": {"epsilon": arguments.epsilon}, "attacks": attacks, "certify": False})
    data = datasets.load(arguments.dataset, "test")
    data = data.take(data.stratified(arguments.images, 0))
    row = measure(read_classifier(arguments.weights), data, spec, arguments.pairs)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    names = {"weights": arguments.weights.name, "dataset": data.name, "epsilon": spec.threat.epsilon}
    print(json.dumps({"benchmark": "standard_floor", "machine": platform.machine(), **versions, **names, **row}))


if __name__ == "__main__":
    main()
