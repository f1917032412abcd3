"""One of several processes that train together, or the only one: `python ranks_process.py OUT`; run by test_ranks.py."""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training.ranks import joined
from faal_core.training.recipe import train

METHODS = {
    "faal": {"method": {"type": "faal"}},
    "faal, perturbed": {"method": {"type": "faal"}, "weighted": True},
    "frl": {"method": {"type": "frl"}},
    "cfa": {"method": {"type": "cfa"}},
    "wat": {"method": {"type": "wat"}},
    "dafa": {"method": {"type": "dafa"}},
    "cfol": {"method": {"type": "cfol", "rate": 0.01}},
}


def network() -> Classifier:
    """Two convolutions without batch-norm, so that nothing depends on how a batch is shared; always with the same weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)]
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    return Classifier(nn.Sequential(*layers), spec)


def main(out: Path) -> None:
    """Trains with every method, writes rows of epochs, the share kept and weights."""
    torch.set_num_threads(1)
    bundled = load("fashion-mnist-subset", "train")
    data = bundled.take(bundled.stratified(330, 0))
    found = {}
    with joined(os.environ, torch.device("cpu")) as (ranks, device):
        for name, asked in METHODS.items():
            perturbation = {"gamma": 0.01, "weighted": True} if "weighted" in asked else None
            training = {
                "learning_rates": [0.1, 0.05],
                "batch_size": 33,
                # Near the image, where an ascent of the divergence begins, the gradient's signs hang on the last bit.
                "attack": {"steps": 2, "loss": "cross-entropy"},
                "held_out_share": 0.1,
                "weight_perturbation": perturbation,
            }
            spec = FinetuneSpec.model_validate(
                {"threat": {"epsilon": 0.05}, "method": asked["method"], "training": training}
            )
            trained = train(network(), data, spec, device=device, ranks=ranks)
            rows = [row.model_dump(exclude={"seconds"}) for row in trained.epochs]
            found[name] = {
                "rows": rows,
                "share": trained.selected_share,
                "weights": dict(trained.classifier.state_dict()),
            }
        torch.save(found, out / f"{ranks.number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
