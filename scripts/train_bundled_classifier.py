"""Train the bundled classifier: a small residual network, adversarially, on the whole Fashion-MNIST training set.

    python scripts/train_bundled_classifier.py ROOT OUT.safetensors

ROOT is torchvision's folder of Fashion-MNIST (ROOT/FashionMNIST/raw/*.gz). Training is adversarial with uniform class weights:
ε = 0.1 L∞, PGD-4, six epochs, seed 0. The epoch is selected on 2 % of the training images, the validation set. The script uses
one thread, so the result does not depend on the machine's cores. At the end it prints the audit on the bundled test images.
"""

import sys
from pathlib import Path

import torch
from pydantic import BaseModel

from faal_core.auditing.run import run_audit
from faal_core.datasets import load
from faal_core.networks import build
from faal_core.progress import NoProgress
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
        validation_fraction=0.02,
        max_robust_drop=None,
        max_clean_drop=None,
        seed=0,
    ),
)


class PrintedProgress(NoProgress):
    """Prints progress to standard output."""

    def stage(self, name: str, total: int) -> None:
        """Print a line for each stage."""
        print(f"{name}: {total} images", flush=True)

    def record(self, row: BaseModel) -> None:
        """Print a line for each epoch or attack."""
        print(row.model_dump_json(), flush=True)


def main(root: Path, out: Path) -> None:
    """Train, write the weights with their spec, and print the audit."""
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
    result = train(
        build(spec),
        training_data,
        SPEC,
        device=cpu,
        checkpoint=checkpoint,
        progress=PrintedProgress(),
    )
    write_classifier(out, result.classifier)
    checkpoint.unlink()
    report = run_audit(result.classifier, test_data, SPEC.audit_spec, name="bundled", device=cpu).report
    for row in report.classes:
        print(f"{row.name:12} clean {row.clean.rate:.3f}  robust {row.robust.rate:.3f}")
    robust = report.robust
    print(f"mean robust {robust.mean.rate:.4f}, worst {robust.worst_class} {robust.worst.value:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
