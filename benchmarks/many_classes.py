"""Compare `fast`, with and without MALT's order of targets, with `standard` on a robust network with many classes.

    python -m benchmarks.many_classes [--quick] [--classes N] [--images N] [--epochs N] [--weights FILE]

The classes are those of Fashion-MNIST, each in up to ten versions: turned by 0, 90, 180 and 270 degrees, the same in negative,
and with halves swapped from left to right or from top to bottom. The network, a small_resnet, is trained adversarially on the
bundled training images, and stored in `--weights`; if the file exists, it is read from there. The audits use the bundled test
images. `robust` has the number of robust images of each audit, and `passes` those passed through the network. The last line is
one JSON object.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.networks import build
from faal_core.reports.progress_bar import ProgressBar
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train
from faal_core.weights import read_classifier, write_classifier

EPSILON = 0.05
VERSIONS = 10


def change(images: Tensor, version: int) -> Tensor:
    """Return a version of images with 8-bit pixels, `n c h w`."""
    if version >= 8:
        return images.roll(images.shape[-1] // 2, dims=version - 10)
    return (255 - images if version >= 4 else images).rot90(version % 4, dims=(2, 3)).contiguous()


def multiply(split: str, classes: int) -> LabelledImages:
    """Return the images of the first `classes` classes, those of one version after the other."""
    data = load("fashion-mnist-subset", split)
    count = len(data.class_names)
    images = torch.cat([change(data.images, version) for version in range(VERSIONS)])
    labels = torch.cat([data.labels + count * version for version in range(VERSIONS)])
    chosen = labels < classes
    names = tuple(f"{name}, version {version}" for version in range(VERSIONS) for name in data.class_names)
    return LabelledImages(images[chosen], labels[chosen], names[:classes], f"fashion-mnist × {classes}", split)


def train_network(classes: int, epochs: int, images: int | None) -> Classifier:
    """Return a network that was trained adversarially, with PGD-5, from random weights."""
    torch.manual_seed(0)
    data = multiply("train", classes)
    data = data if images is None else data.take(data.stratified(images, 0))
    network = ClassifierSpec(
        architecture="small_resnet", num_classes=classes, mean=(0.5,), std=(0.35,), class_names=data.class_names
    )
    half = epochs // 2
    spec = FinetuneSpec.model_validate(
        {
            "threat": {"epsilon": EPSILON},
            "method": {"type": "uniform"},
            "training": {
                "learning_rates": (0.1,) * (epochs - half)
                + tuple(0.1 * max(1 - (i + 1) / half, 0.01) for i in range(half)),
                "schedule": "linear",
                "attack": {"steps": 5, "relative_step": 0.4},
                "augment": "none",
                "precision": "bfloat16",
                "validation_fraction": 0,
            },
        }
    )
    with ProgressBar() as bar:
        return train(build(network), data, spec, device=torch.device("cpu"), progress=bar).classifier


def list_protocols(*, quick: bool) -> dict[str, list[dict[str, Any]] | str]:
    """Return the attacks of each audit by name."""
    by_preset = {
        name: [
            attack.model_dump()
            for attack in AuditSpec.model_validate({"threat": {"epsilon": EPSILON}, "attacks": name}).attacks
        ]
        for name in ("fast", "standard")
    }
    if quick:
        by_preset = {
            name: [
                {
                    **one,
                    **{key: min(one[key], most) for key, most in (("iterations", 10), ("queries", 200)) if key in one},
                }
                for one in attacks
            ]
            for name, attacks in by_preset.items()
        }
    malt = [
        {**one, "target_order": "malt"} if one.get("targets") and one["type"] == "apgd" else one
        for one in by_preset["fast"]
    ]
    return {"fast": by_preset["fast"], "fast, MALT": malt, "standard": by_preset["standard"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one epoch on 2,000 images, shorter attacks, 43 images")
    parser.add_argument("--classes", type=int, default=43)
    parser.add_argument("--images", type=int, default=430)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.images = 1, arguments.classes
    start = time.monotonic()
    if arguments.weights and arguments.weights.exists():
        classifier = read_classifier(arguments.weights)
    else:
        classifier = train_network(arguments.classes, arguments.epochs, 2000 if arguments.quick else None)
        if arguments.weights:
            write_classifier(arguments.weights, classifier)
    data = multiply("test", arguments.classes)
    data = data.take(data.stratified(arguments.images, 0))
    result: dict[str, Any] = {"robust": {}, "passes": {}, "seconds": {}, "broken": {}}
    for name, attacks in list_protocols(quick=arguments.quick).items():
        spec = AuditSpec.model_validate(
            {"threat": {"epsilon": EPSILON}, "attacks": attacks, "escalate": False, "certify": False}
        )
        report = run_audit(classifier, data, spec, name=name, device=torch.device("cpu")).report
        result["clean"] = report.clean.mean.count
        result["robust"][name] = report.robust.mean.count
        result["passes"][name] = sum(row.forward + row.backward for row in report.attacks)
        result["broken"][name] = [row.broken for row in report.attacks]
        result["seconds"][name] = round(report.seconds, 1)
        print(name, {key: value[name] for key, value in result.items() if key != "clean"}, flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    minutes = round((time.monotonic() - start) / 60, 1)
    print(
        json.dumps(
            {
                "benchmark": "many_classes",
                **versions,
                "classes": arguments.classes,
                "images": len(data),
                **result,
                "minutes": minutes,
            }
        )
    )


if __name__ == "__main__":
    main()
