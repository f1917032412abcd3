"""Trains the base classifier that `fairness.py` fine-tunes: a small residual network, adversarially, all classes alike.

    python benchmarks/train_base.py DATASET OUT.safetensors [--root ROOT] [--epsilon E] [--epochs N] [--threads N] [--quick]

Uniform adversarial training from random weights: PGD-3, bfloat16, learning rates that rise over one epoch to 0.1, stay
and fall linearly to 0 over the last half. One image in fifty is not trained on; the last epoch's weights are kept and judged
on those. A killed run goes on from OUT.training. The last line is JSON.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from faal_core.audit.run import audit
from faal_core.cli.progress_bar import ProgressBar
from faal_core.datasets import load
from faal_core.networks import build
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.selection import hold_out
from faal_core.weights import write_classifier


def learning_rates(epochs: int) -> tuple[float, ...]:
    """One an epoch, of which the linear schedule makes a trapezium."""
    half = epochs // 2
    return (0.1,) * (epochs - half) + tuple(0.1 * max(1 - (i + 1) / half, 0.001) for i in range(half))


def main() -> None:
    """Trains, writes the weights with their spec, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="8/255")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="two epochs, 600 images")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    data = load(asked.dataset, "train", root=asked.root)
    if asked.quick:
        asked.epochs, data = 2, data.take(data.stratified(600, 0))
    data, held_out = (data.take(rows) for rows in hold_out(data, 0.02, 0))
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
            "threat": {"epsilon": asked.epsilon},
            "method": {"type": "uniform"},
            "training": {
                "learning_rates": learning_rates(asked.epochs),
                "schedule": "linear",
                "attack": {"steps": 3, "relative_step": 0.5},
                "augment": "crop-flip",
                "precision": "bfloat16",
                "held_out_share": 0,
            },
        }
    )
    begun, checkpoint = time.monotonic(), asked.out.with_suffix(".training")
    cpu = torch.device("cpu")
    with ProgressBar() as bar:
        trained = train(build(network), data, spec, device=cpu, checkpoint=checkpoint, progress=bar)
    write_classifier(asked.out, trained.classifier)
    checkpoint.unlink()
    attacks = [{"type": "apgd", "loss": "margin", "iterations": 20}]
    judged = AuditSpec.model_validate({"threat": {"epsilon": asked.epsilon}, "attacks": attacks})
    report = audit(trained.classifier, held_out, judged, name="base", device=cpu).report
    figures = {"clean": report.clean.mean.rate, "mean": report.robust.mean.rate, "worst": report.robust.worst.value}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": asked.threads}
    print(json.dumps({"benchmark": "train_base", **versions, **figures, "minutes": (time.monotonic() - begun) / 60}))


if __name__ == "__main__":
    main()
