"""Train a base classifier adversarially from random weights, which the benchmarks of methods fine-tune.

    python -m benchmarks.train_base DATASET OUT.safetensors [--root ROOT] [--epsilon E] [--epochs N] [--threads N] [--quick]

The network is a residual one of 0.69 million parameters (`small_resnet`, width 32, two blocks a stage), whose stem halves the
resolution: so two cores train it in hours. Each image is attacked by two steps of 0.625 ε from a uniform start, in bfloat16. One
step is cheaper, but networks can learn to withstand one step and no other attack (catastrophic overfitting, Wong et al. 2020).
The learning rate rises linearly to 0.2 and falls to 0. One image in fifty is for validation: the epoch with the greatest sum of
mean and worst-class robust accuracy is stored, in float16. An interrupted run resumes from OUT.training. The last line is JSON.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import torch

from faal_core.datasets import LabelledImages, load
from faal_core.networks import build
from faal_core.progress import Progress
from faal_core.reports.progress_bar import ProgressBar
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import write_classifier

PEAK_LEARNING_RATE, PEAK_AT = 0.2, 0.4  # Wong et al. 2020: the rate rises for two fifths of the training
ARGUMENTS = {"width": 32, "blocks": 2, "stem_stride": 2}


def make_learning_rates(epochs: int) -> tuple[float, ...]:
    """Return one rate for each epoch, which the linear schedule turns into a triangle."""
    peak = max(round(PEAK_AT * epochs), 1)
    shares = [
        number / peak if number <= peak else (epochs - number) / (epochs - peak) for number in range(1, epochs + 1)
    ]
    return tuple(PEAK_LEARNING_RATE * max(share, 0.001) for share in shares)


def train_base(
    data: LabelledImages,
    epsilon: str,
    epochs: int,
    *,
    architecture: str,
    arguments: dict[str, int],
    device: torch.device,
    checkpoint: Path,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a network of that architecture from random weights; a killed training resumes from the checkpoint."""
    pixels = data.pixels(torch.arange(min(len(data), 5000)), torch.device("cpu"))
    network = ClassifierSpec(
        architecture=architecture,
        arguments=arguments,
        num_classes=len(data.class_names),
        mean=tuple(round(value, 4) for value in pixels.mean((0, 2, 3)).tolist()),
        std=tuple(round(value, 4) for value in pixels.std((0, 2, 3)).tolist()),
        class_names=data.class_names,
    )
    training: dict[str, Any] = {
        "learning_rates": make_learning_rates(epochs),
        "schedule": "linear",
        "attack": {"steps": 2, "relative_step": 0.625},
        "augment": "crop-flip",
        "precision": "bfloat16",
        "validation_fraction": 0.02,
        "batch_size": batch_size,
        "clean_forward": False,
        "max_robust_drop": None,
        "max_clean_drop": None,
    }
    fields = {"threat": {"epsilon": epsilon}, "method": {"type": "uniform"}, "training": training}
    torch.manual_seed(0)
    spec = FinetuneSpec.model_validate(fields)
    return train(build(network), data, spec, device=device, checkpoint=checkpoint, progress=progress)


def main() -> None:
    """Train, write the weights with their spec, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="8/255")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="two epochs, 600 images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load(arguments.dataset, "train", root=arguments.root)
    if arguments.quick:
        arguments.epochs, data = 2, data.take(data.stratified(600, 0))
    start, checkpoint = time.monotonic(), arguments.out.with_suffix(".training")
    with ProgressBar() as bar:
        result = train_base(
            data,
            arguments.epsilon,
            arguments.epochs,
            architecture="small_resnet",
            arguments=ARGUMENTS,
            device=torch.device("cpu"),
            checkpoint=checkpoint,
            progress=bar,
        )
    write_classifier(arguments.out, result.classifier.half())
    checkpoint.unlink()
    epoch = result.epochs[result.selected_epoch - 1]
    figures = {
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
