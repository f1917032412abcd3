"""One of several processes that train together, or the only one; run by test_ranks.py.

python ranks_process.py OUT every-method            rows, interpolation and weights, by method
python ranks_process.py OUT resumed [STEPS]         weights of a network with batch-norm; the first process dies after STEPS
python ranks_process.py OUT failing ERROR           the error of each process when the last one's shard fails with ERROR, or the
                                                    first one's search for class offsets, if ERROR is "search"
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
from faal_core.training import checkpointing, offsets
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
    "fsr": {"type": "fsr"},
    "decosam": {"type": "decosam"},
}


def plain_network() -> Classifier:
    """Build two convolutions in float64 without batch-norm, so that the shards of a batch do not matter; always the same."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)]
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    return Float64Classifier(nn.Sequential(*layers), spec)


def residual_network() -> Classifier:
    """Build a small network with batch-norm; always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def images() -> LabelledImages:
    """Return 330 training images, of which a tenth, 33, may be used for validation."""
    train_part = load("fashion-mnist-subset", "train")
    return train_part.take(train_part.stratified(330, 0))


def run_training(
    classifier: Classifier, method: dict[str, Any], ranks: Ranks, batch_size: int = 33, **options: Any
) -> TrainingResult:
    """Train shortly and return the result."""
    training = {
        "learning_rates": [0.1, 0.05],
        "batch_size": batch_size,
        "attack": {"steps": 2},
        "validation_fraction": 0.1,
        **options.pop("training", {}),
    }
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.05}, "method": method, "training": training})
    return train(classifier, images(), spec, device=ranks.device, ranks=ranks, **options)


def every_method(ranks: Ranks) -> dict[str, Any]:
    """Return the rows of epochs, the interpolation and the weights, by method."""
    results = {}
    for name, method in METHODS.items():
        result = run_training(plain_network(), method, ranks, training=PERTURBED if "perturbed" in name else {})
        rows = [row.model_dump(exclude={"seconds"}) for row in result.epochs]
        results[name] = {"rows": rows, "share": result.interpolation, "weights": dict(result.best_epoch_weights)}
    return results


class DiesAfter(NoProgress):
    """Progress that ends the process after `batches` batches, as a kill would."""

    def __init__(self, batches: int) -> None:
        self.remaining = batches

    def advance(self, count: int = 1) -> None:
        """Count one batch, if it has any image."""
        self.remaining -= count > 0
        if self.remaining < 0:
            os._exit(9)


def resume(ranks: Ranks, out: Path, batches: str = "1000000") -> dict[str, Any]:
    """Return weights and statistics after a training that resumes from `out`'s checkpoint; its last batch has two images."""
    result = run_training(
        residual_network(),
        {"type": "faal"},
        ranks,
        batch_size=59,
        checkpoint=out / "training.checkpoint",
        checkpoint_steps=2,
        progress=DiesAfter(int(batches)),
    )
    return dict(result.classifier.state_dict())


def report_missing_checkpoint(ranks: Ranks, out: Path) -> str:
    """Return the error of resuming from a checkpoint that only the first process can read."""
    checkpoint, options = out / "training.checkpoint", {"training": {"learning_rates": [0.1]}}
    run_training(plain_network(), {"type": "faal"}, ranks, checkpoint=checkpoint, **options)
    if not ranks.is_leader:
        checkpointing.read = lambda *_: None
    try:
        run_training(plain_network(), {"type": "faal"}, ranks, checkpoint=checkpoint, **options)
    except InvalidSpec as error:
        return error.message
    return "nothing"


def level_buffers(ranks: Ranks) -> dict[str, Any]:
    """Set each floating-point buffer to the process's number, average batch-norm over the processes, and return the buffers."""
    classifier = residual_network()
    classifier.backbone.register_buffer("constant", torch.zeros(()))
    buffers = {name: buffer for name, buffer in classifier.named_buffers() if buffer.is_floating_point()}
    for buffer in buffers.values():
        buffer.fill_(ranks.rank)
    ranks.average_batch_norm(classifier)
    return {name: float(buffer.mean()) for name, buffer in buffers.items()}


def failing(ranks: Ranks, error: str) -> str:
    """Return the name of this process's exception when the last one's third pass in training, or the first's search, fails."""

    def search_fails(*_: Any) -> None:
        raise ValueError("odd")

    if error == "search":
        vars(offsets)["search_offsets"] = search_fails
    errors = {
        "full": torch.OutOfMemoryError("no room"),
        "diverged": TrainingDiverged("NaN"),
        "broken": ValueError("odd"),
    }
    forward, passes = Float64Classifier.forward, [0]

    def fails(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        passes[0] += self.training
        if passes[0] == 3 and ranks.rank == ranks.count - 1:
            raise errors.get(error, AssertionError("the search did not fail"))
        return forward(self, x)

    Float64Classifier.forward = fails
    try:
        run_training(plain_network(), {"type": "faal"}, ranks)
    except Exception as exception:  # noqa: BLE001 - the test compares the type
        return type(exception).__name__
    return "nothing"


def main(out: Path, task: str, *arguments: str) -> None:
    """Write the result of a task to `<number of the process>.pt`."""
    torch.set_num_threads(1)
    with join_ranks(os.environ, torch.device("cpu")) as ranks:
        result: Any = {
            "every-method": lambda: every_method(ranks),
            "resumed": lambda: resume(ranks, out, *arguments),
            "divided": lambda: report_missing_checkpoint(ranks, out),
            "levelled": lambda: level_buffers(ranks),
            "failing": lambda: failing(ranks, *arguments),
        }[task]()
        torch.save(result, out / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
    os._exit(0)  # as worker/rank_process.py ends
