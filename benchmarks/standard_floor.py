"""Measure an audit with the preset `standard` beside its passes alone: the same batches, forward and backward, without an attack.

    python -m benchmarks.standard_floor [--quick] [--reference FOLDER] [--network NAME] [--attack N] [--images N] [--batch-size N]

A hook records the number of images of each pass of a batch, and whether it needs a gradient. The passes are repeated on the
batch's own images as soon as the batch is computed, so that both are measured on the same machine state. Seconds are those of
the processor, which other programs change little. `ratio` compares all seconds of the audit with those of the repeated passes;
`parts` does so for each attack. One thread, one process, no certified images. Batches are as large as in an audit of the whole
test set, or have `--batch-size` images. `--attack` takes one attack of the preset, from 0. `--reference` names a folder with
further networks, as `FAAL_REFERENCE_DATA` does for tests: robust/, cifar10-test.npz and mnist-test.npz. The last line is one
JSON object.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.audit_processes import list_subjects
from faal_core.auditing.batches import BatchWork, OneProcess
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import ComputedBatch, Evaluator, freeze_weights
from faal_core.auditing.parallelism import choose_batch_size
from faal_core.classifier import Classifier, Images
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.ledger import CLEAN, Ledger
from faal_core.specs import AuditSpec

Pass = tuple[int, bool]
QUICK = [
    {"type": "apgd", "iterations": 10},
    {"type": "apgd", "loss": "dlr", "targets": 2, "iterations": 10},
    {"type": "fab", "targets": 2, "iterations": 10},
    {"type": "square", "queries": 300},
]


def repeat(classifier: Classifier, x: Images, passes: list[Pass]) -> float:
    """Return the processor's seconds of the passes alone."""
    parts = {size: classifier.lay_out(x[:size]) for size, _ in passes}
    start = time.process_time()
    with freeze_weights(classifier):
        for size, needs_gradient in passes:
            if needs_gradient:
                images = parts[size].detach().requires_grad_()
                torch.autograd.grad(classifier(images).sum(), images)
            else:
                with torch.no_grad():
                    classifier(parts[size])
    return time.process_time() - start


class PairedBatches(OneProcess):
    """Computes batches, and repeats the passes of each.

    Attributes:
        audit_seconds, pass_seconds: of the batches of each attack, and of their passes alone.
        extra_seconds: of all that an audit does not do.
        forward, backward: images passed.
    """

    def __init__(self, work: BatchWork) -> None:
        super().__init__(work)
        self._evaluator = work.evaluator
        self.audit_seconds: defaultdict[int, float] = defaultdict(float)
        self.pass_seconds: defaultdict[int, float] = defaultdict(float)
        self.extra_seconds, self.forward, self.backward = 0.0, 0, 0

    def wait(self, seconds: float) -> Sequence[ComputedBatch]:
        """Compute the batch, then its passes alone, and return its result."""
        passes: list[Pass] = []
        classifier = self._evaluator.classifier
        hook = classifier.register_forward_pre_hook(
            lambda _, inputs: passes.append((len(inputs[0]), inputs[0].requires_grad))
        )
        start = time.process_time()
        computed = super().wait(seconds)
        end = time.process_time()
        hook.remove()
        for result in (one.result for one in computed):
            self.audit_seconds[result.attack] += end - start
            x = self._evaluator.pixels(torch.tensor(result.rows))
            self.pass_seconds[result.attack] += repeat(classifier, x, passes)
            self.forward, self.backward = self.forward + result.forward, self.backward + result.backward
        self.extra_seconds += time.process_time() - end
        return computed


def measure(classifier: Classifier, data: LabelledImages, spec: AuditSpec, batch_size: int) -> dict[str, object]:
    """Return the seconds of an audit and of its passes, and their ratios."""
    evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=spec.batch_size, seed=spec.seed)
    executors: list[PairedBatches] = []

    @contextmanager
    def open_pairs(work: BatchWork) -> Iterator[PairedBatches]:
        executors.append(PairedBatches(work))
        yield executors[-1]

    repeat(classifier, evaluator.pixels(torch.arange(batch_size)), [(batch_size, True)] * 3)  # prepares layers
    start = time.process_time()
    ledger = Ledger(None, "", batch_size=batch_size)
    evaluate(evaluator, spec.threat, spec.attacks, NoProgress(), ledger, open_executor=open_pairs)
    pairs = executors[0]
    audit, alone = time.process_time() - start - pairs.extra_seconds, sum(pairs.pass_seconds.values())
    return {
        "images": len(data),
        "batch_size": batch_size,
        "ratio": round(audit / alone, 3),
        "audit_s": round(audit, 2),
        "passes_s": round(alone, 2),
        "forward": pairs.forward,
        "backward": pairs.backward,
        "parts": {
            str(spec.attacks[number]): {
                "ratio": round(seconds / pairs.pass_seconds[number], 3),
                "audit_s": round(seconds, 2),
                "passes_s": round(pairs.pass_seconds[number], 2),
            }
            for number, seconds in pairs.audit_seconds.items()
            if number != CLEAN
        },
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="32 images, few steps, 2 targets and 300 queries of Square"
    )
    parser.add_argument("--reference", type=Path, help="folder with further networks")
    parser.add_argument("--network", default="bundled", help="bundled, resnet4b, cnn_a_adv or SmallCNN")
    parser.add_argument("--attack", type=int, help="number of the attack, from 0; all when absent")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.images = 32
    with tempfile.TemporaryDirectory() as folder:
        classifier, data, epsilon = list_subjects(arguments.reference, Path(folder))[arguments.network]()
    spec = AuditSpec.model_validate(
        {"threat": {"epsilon": epsilon}, "attacks": QUICK if arguments.quick else "standard", "certify": False}
    )
    whole = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=spec.batch_size, seed=spec.seed)
    batch_size = min(arguments.batch_size or choose_batch_size(whole), arguments.images)
    if arguments.attack is not None:
        spec = spec.model_copy(update={"attacks": (spec.attacks[arguments.attack],)})
    row = measure(classifier, data.take(data.stratified(arguments.images, 0)), spec, batch_size)
    versions = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    names = {"network": arguments.network, "epsilon": str(spec.threat)}
    print(json.dumps({"benchmark": "standard_floor", **versions, **names, **row}))


if __name__ == "__main__":
    main()
