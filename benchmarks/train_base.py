"""Train a base classifier adversarially, from random weights or from a file, which the benchmarks of methods fine-tune.

    python -m benchmarks.train_base DATASET OUT.safetensors [--root ROOT] [--epsilon E] [--epochs N] [--threads N]
        [--start FILE] [--loss at|trades] [--quick]

The network is a residual one of 0.69 million parameters (`small_resnet`, width 32, two blocks a stage), whose stem halves the
resolution: so two cores train it in hours. Each image is attacked by two steps of 0.625 ε from a uniform start, in bfloat16. One
step is cheaper, but networks can learn to withstand one step and no other attack (catastrophic overfitting, Wong et al. 2020).
The attack climbs the cross-entropy with `--loss trades`, too.
The learning rate rises linearly to 0.2 and falls to 0. From a file it rises to 0.1, and a moving average of the weights is kept.
One image in fifty is for validation: the epoch with the greatest sum of mean and worst-class robust accuracy is stored, in
float16. An interrupted run resumes from OUT.training. The last line is JSON.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import torch

from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.networks import build
from faal_core.progress import Progress
from faal_core.reports.progress_bar import ProgressBar
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import read_classifier, write_classifier

PEAK_LEARNING_RATE, PEAK_AT = 0.2, 0.4  # Wong et al. 2020: the rate rises for two fifths of the training
CONTINUED_LEARNING_RATE = 0.1  # peak where trained weights are trained further
ARGUMENTS = {"width": 32, "blocks": 2, "stem_stride": 2}


def make_learning_rates(epochs: int, peak_rate: float = PEAK_LEARNING_RATE) -> tuple[float, ...]:
    """Return one rate for each epoch, which the linear schedule turns into a triangle."""
    peak = max(round(PEAK_AT * epochs), 1)
    shares = [
        number / peak if number <= peak else (epochs - number) / (epochs - peak) for number in range(1, epochs + 1)
    ]
    return tuple(peak_rate * max(share, 0.001) for share in shares)


def new_network(data: LabelledImages, architecture: str, arguments: dict[str, int]) -> Classifier:
    """Return a classifier of that architecture for the data, with random weights."""
    pixels = data.pixels(torch.arange(min(len(data), 5000)), torch.device("cpu"))
    spec = ClassifierSpec(
        architecture=architecture,
        arguments=arguments,
        num_classes=len(data.class_names),
        mean=tuple(round(value, 4) for value in pixels.mean((0, 2, 3)).tolist()),
        std=tuple(round(value, 4) for value in pixels.std((0, 2, 3)).tolist()),
        class_names=data.class_names,
    )
    torch.manual_seed(0)
    return build(spec)


def train_base(
    network: Classifier,
    data: LabelledImages,
    epsilon: str,
    epochs: int,
    *,
    device: torch.device,
    checkpoint: Path,
    batch_size: int = 128,
    is_trained: bool = False,
    loss: str = "at",
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the network, whose weights are random unless it `is_trained`; a killed training resumes from the checkpoint."""
    training: dict[str, Any] = {
        "learning_rates": make_learning_rates(epochs, CONTINUED_LEARNING_RATE if is_trained else PEAK_LEARNING_RATE),
        "schedule": "linear",
        "attack": {"steps": 2, "relative_step": 0.625, "loss": "cross-entropy"},
        "averaging": {"decay": 0.999} if is_trained else None,
        "augment": "crop-flip",
        "precision": "bfloat16",
        "validation_fraction": 0.02,
        "batch_size": batch_size,
        "clean_forward": False,
        "max_robust_drop": None,
        "max_clean_drop": None,
    }
    fields = {"threat": {"epsilon": epsilon}, "method": {"type": "uniform", "loss": loss}, "training": training}
    spec = FinetuneSpec.model_validate(fields)
    return train(network, data, spec, device=device, checkpoint=checkpoint, progress=progress)


def main() -> None:
    """Train, write the weights with their spec, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="8/255")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--start", type=Path, help="weights to train further")
    parser.add_argument("--loss", choices=("at", "trades"), default="at")
    parser.add_argument("--quick", action="store_true", help="two epochs, 600 images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load(arguments.dataset, "train", root=arguments.root)
    if arguments.quick:
        arguments.epochs, data = 2, data.take(data.stratified(600, 0))
    start, checkpoint = time.monotonic(), arguments.out.with_suffix(".training")
    network = (
        read_classifier(arguments.start).float() if arguments.start else new_network(data, "small_resnet", ARGUMENTS)
    )
    with ProgressBar() as bar:
        result = train_base(
            network,
            data,
            arguments.epsilon,
            arguments.epochs,
            device=torch.device("cpu"),
            checkpoint=checkpoint,
            is_trained=arguments.start is not None,
            loss=arguments.loss,
            progress=bar,
        )
    write_classifier(arguments.out, result.classifier.half())
    checkpoint.unlink()
    epoch = result.epochs[result.selected_epoch - 1]
    figures = {
        "start": arguments.start and arguments.start.name,
        "loss": arguments.loss,
        "epsilon": arguments.epsilon,
        "epochs": arguments.epochs,
        "epoch": epoch.epoch,
        "clean": epoch.validation_clean,
        "mean": epoch.validation_robust,
        "worst": epoch.validation_robust_worst,
        "minutes": sum(row.seconds for row in result.epochs) / 60,
        "minutes_of_this_run": (time.monotonic() - start) / 60,
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "train_base", **versions, **figures}))


if __name__ == "__main__":
    main()
