"""One of several processes that train together, or the only one; run by test_ranks.py.

python ranks_process.py OUT every-method            rows, share kept and weights, by method
python ranks_process.py OUT resumed [STEPS]         weights of a network with batch-norm; the first process dies after STEPS
python ranks_process.py OUT failing ERROR           what each process raises when the last one's share fails so
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec, TrainingDiverged
from faal_core.networks import build
from faal_core.progress import NoProgress
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training import checkpointing
from faal_core.training.ranks import Ranks, join_ranks
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from tests.float64_classifier import Float64Classifier

PERTURBED = {"weight_perturbation": {"gamma": 0.01, "weighted": True}}
METHODS = {
    "faal": {"type": "faal"},
    "faal, perturbed": {"type": "faal"},
    "frl": {"type": "frl"},
    "cfa": {"type": "cfa"},
    "wat": {"type": "wat"},
    "dafa": {"type": "dafa"},
    "cfol": {"type": "cfol", "rate": 0.01},
}


def plain_network() -> Classifier:
    """Two convolutions in float64 without batch-norm, so that it does not matter how a batch is shared; always the same."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)]
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    return Float64Classifier(nn.Sequential(*layers), spec)


def residual_network() -> Classifier:
    """A small network with batch-norm; always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def images() -> LabelledImages:
    """Return 330 training images, of which a tenth, 33, may be used for validation."""
    bundled = load("fashion-mnist-subset", "train")
    return bundled.take(bundled.stratified(330, 0))


def trained(
    classifier: Classifier, method: dict[str, Any], ranks: Ranks, batch_size: int = 33, **asked: Any
) -> TrainingResult:
    """A short training."""
    training = {
        "learning_rates": [0.1, 0.05],
        "batch_size": batch_size,
        "attack": {"steps": 2},
        "validation_fraction": 0.1,
        **asked.pop("training", {}),
    }
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.05}, "method": method, "training": training})
    return train(classifier, images(), spec, device=ranks.device, ranks=ranks, **asked)


def every_method(ranks: Ranks) -> dict[str, Any]:
    """Rows of epochs, the share kept and weights, by method."""
    found = {}
    for name, method in METHODS.items():
        done = trained(plain_network(), method, ranks, training=PERTURBED if "perturbed" in name else {})
        rows = [row.model_dump(exclude={"seconds"}) for row in done.epochs]
        found[name] = {"rows": rows, "share": done.interpolation, "weights": dict(done.best_epoch_weights)}
    return found


class DiesAfter(NoProgress):
    """Ends the process, as a kill would, after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def advance(self, count: int = 1) -> None:
        """One batch less, if any image was in it."""
        self.left -= count > 0
        if self.left < 0:
            os._exit(9)


def resumed(ranks: Ranks, out: Path, batches: str = "1000000") -> dict[str, Any]:
    """Weights and statistics after a training that goes on from `out`'s checkpoint; its last batch has two images."""
    done = trained(
        residual_network(),
        {"type": "faal"},
        ranks,
        batch_size=59,
        checkpoint=out / "training.checkpoint",
        checkpoint_steps=2,
        progress=DiesAfter(int(batches)),
    )
    return dict(done.classifier.state_dict())


def divided(ranks: Ranks, out: Path) -> str:
    """The error of going on from a checkpoint that only the first process can read."""
    checkpoint, asked = out / "training.checkpoint", {"training": {"learning_rates": [0.1]}}
    trained(plain_network(), {"type": "faal"}, ranks, checkpoint=checkpoint, **asked)
    if not ranks.is_leader:
        checkpointing.read = lambda *_: None
    try:
        trained(plain_network(), {"type": "faal"}, ranks, checkpoint=checkpoint, **asked)
    except InvalidSpec as error:
        return error.message
    return "nothing"


def levelled(ranks: Ranks) -> dict[str, Any]:
    """Of a network whose floating-point buffers were all the process's number: what levelling made of them."""
    classifier = residual_network()
    classifier.backbone.register_buffer("constant", torch.zeros(()))
    buffers = {name: buffer for name, buffer in classifier.named_buffers() if buffer.is_floating_point()}
    for buffer in buffers.values():
        buffer.fill_(ranks.rank)
    ranks.average_batch_norm(classifier)
    return {name: float(buffer.mean()) for name, buffer in buffers.items()}


def failing(ranks: Ranks, error: str) -> str:
    """Name of what this process raises when the last one's third forward pass in train mode fails so."""
    errors = {
        "full": torch.OutOfMemoryError("no room"),
        "diverged": TrainingDiverged("NaN"),
        "broken": ValueError("odd"),
    }
    forward, seen = Float64Classifier.forward, [0]

    def fails(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        seen[0] += self.training
        if seen[0] == 3 and ranks.rank == ranks.count - 1:
            raise errors[error]
        return forward(self, x)

    Float64Classifier.forward = fails
    try:
        trained(plain_network(), {"type": "faal"}, ranks)
    except Exception as raised:  # noqa: BLE001 - which one it is, is what is asked
        return type(raised).__name__
    return "nothing"


def main(out: Path, what: str, *arguments: str) -> None:
    """Writes what is asked for as `<number of the process>.pt`."""
    torch.set_num_threads(1)
    with join_ranks(os.environ, torch.device("cpu")) as ranks:
        found: Any = {
            "every-method": lambda: every_method(ranks),
            "resumed": lambda: resumed(ranks, out, *arguments),
            "divided": lambda: divided(ranks, out),
            "levelled": lambda: levelled(ranks),
            "failing": lambda: failing(ranks, *arguments),
        }[what]()
        torch.save(found, out / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
    os._exit(0)  # as worker/rank_process.py ends
