"""Trains the bundled classifier: a small residual network, adversarially, on the whole Fashion-MNIST training set.

    python scripts/train_bundled_classifier.py ROOT OUT.safetensors

ROOT is where torchvision's Fashion-MNIST lies (ROOT/FashionMNIST/raw/*.gz). Plain adversarial training (uniform class
weights), ε = 0.1 L∞, PGD-4, six epochs, seed 0; the epoch is chosen on 2 % of the training images held out. One thread,
so that the result does not depend on the machine's cores. The audit on the bundled test images is printed at the end.
"""

import sys
from pathlib import Path

import torch
from pydantic import BaseModel

from faal_core.audit.run import audit
from faal_core.datasets import load
from faal_core.networks import build
from faal_core.specs import ClassifierSpec, FinetuneSpec, TrainingAttack, TrainingSpec, UniformMethod
from faal_core.threat_model import ThreatModel
from faal_core.training.recipe import train
from faal_core.weights import write_classifier

SPEC = FinetuneSpec(
    threat=ThreatModel(epsilon=0.1),
    method=UniformMethod(),
    training=TrainingSpec(
        learning_rates=(0.1, 0.1, 0.1, 0.05, 0.01, 0.001),
        attack=TrainingAttack(steps=4, relative_step=0.35),
        augment="none",
        held_out_share=0.02,
        max_robust_drop=None,
        max_clean_drop=None,
        seed=0,
    ),
)


class Printed:
    """Progress as lines on standard output."""

    def stage(self, name: str, total: int) -> None:
        """A line a stage."""
        print(f"{name}: {total} images", flush=True)

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def record(self, row: BaseModel) -> None:
        """A line an epoch or attack."""
        print(row.model_dump_json(), flush=True)


def main(root: Path, out: Path) -> None:
    """Trains, writes the weights with their spec, prints the audit."""
    torch.set_num_threads(1)
    torch.manual_seed(SPEC.training.seed)
    training_data, test_data = load("fashion-mnist", "train", root=root), load("fashion-mnist-subset", "test")
    pixels = training_data.images.float() / 255
    spec = ClassifierSpec(
        architecture="small_resnet",
        num_classes=10,
        mean=(round(pixels.mean().item(), 4),),
        std=(round(pixels.std().item(), 4),),
        class_names=training_data.class_names,
    )
    cpu = torch.device("cpu")
    checkpoint = out.with_suffix(".training")
    trained = train(
        build(spec),
        training_data,
        SPEC,
        device=cpu,
        checkpoint=checkpoint,
        progress=Printed(),
    )
    write_classifier(out, trained.classifier)
    checkpoint.unlink()
    report = audit(trained.classifier, test_data, SPEC.audit_spec, name="bundled", device=cpu).report
    for row in report.classes:
        print(f"{row.name:12} clean {row.clean.rate:.3f}  robust {row.robust.rate:.3f}")
    robust = report.robust
    print(f"mean robust {robust.mean.rate:.4f}, worst {robust.worst_class} {robust.worst.value:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
