"""Train the base classifier that `fairness.py` fine-tunes: a small residual network, with uniform class weights.

    python benchmarks/train_base.py DATASET OUT.safetensors [--root ROOT] [--epsilon E] [--epochs N] [--threads N] [--quick]

Training is adversarial and starts from random weights: PGD-3, bfloat16. The learning rate rises to 0.1 over one epoch, stays,
and falls linearly to 0 over the last half. One image in fifty is for validation alone; the last epoch's weights are stored and
audited on these. An interrupted run resumes from OUT.training. The last line is JSON.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from faal_core.auditing.run import run_audit
from faal_core.datasets import load
from faal_core.networks import build
from faal_core.reports.progress_bar import ProgressBar
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.row_split import split_rows
from faal_core.weights import write_classifier


def make_learning_rates(epochs: int) -> tuple[float, ...]:
    """Return one rate for each epoch, which the linear schedule turns into a trapezium."""
    half = epochs // 2
    return (0.1,) * (epochs - half) + tuple(0.1 * max(1 - (i + 1) / half, 0.001) for i in range(half))


def main() -> None:
    """Train, write the weights with their spec, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="8/255")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="two epochs, 600 images, PGD-1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = load(arguments.dataset, "train", root=arguments.root)
    if arguments.quick:
        arguments.epochs, data = 2, data.take(data.stratified(600, 0))
    data, validation = (data.take(rows) for rows in split_rows(data, 0.02, 0))
    pixels = data.images.float() / 255
    network = ClassifierSpec(
        architecture="small_resnet",
        num_classes=len(data.class_names),
        mean=tuple(round(value, 4) for value in pixels.mean((0, 2, 3)).tolist()),
        std=tuple(round(value, 4) for value in pixels.std((0, 2, 3)).tolist()),
        class_names=data.class_names,
    )
    spec = FinetuneSpec.model_validate(
        {
            "threat": {"epsilon": arguments.epsilon},
            "method": {"type": "uniform"},
            "training": {
                "learning_rates": make_learning_rates(arguments.epochs),
                "schedule": "linear",
                "attack": {"steps": 3, "relative_step": 0.5},
                "augment": "crop-flip",
                "precision": "bfloat16",
                "validation_fraction": 0,
            },
        }
    )
    start, checkpoint = time.monotonic(), arguments.out.with_suffix(".training")
    cpu = torch.device("cpu")
    with ProgressBar() as bar:
        result = train(build(network), data, spec, device=cpu, checkpoint=checkpoint, progress=bar)
    write_classifier(arguments.out, result.classifier)
    checkpoint.unlink()
    attacks = [{"type": "apgd", "loss": "margin", "iterations": 20}]
    audit_spec = AuditSpec.model_validate({"threat": {"epsilon": arguments.epsilon}, "attacks": attacks})
    report = run_audit(result.classifier, validation, audit_spec, name="base", device=cpu).report
    figures = {"clean": report.clean.mean.rate, "mean": report.robust.mean.rate, "worst": report.robust.worst.value}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "train_base", **versions, **figures, "minutes": (time.monotonic() - start) / 60}))


if __name__ == "__main__":
    main()
