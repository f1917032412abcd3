"""Named data sets from torchvision's files, read whole: images as uint8 levels n × c × h × w.

Every function takes the part, torchvision's folder `root`, and whether to download missing files.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faal_core.catalog import dataset_files
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import DatasetMissing
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.torchvision_import import torchvision

DIGITS = tuple(str(digit) for digit in range(10))
GTSRB_SIDE = 32
GTSRB_CLASSES = (
    "Speed limit (20 km/h)",
    "Speed limit (30 km/h)",
    "Speed limit (50 km/h)",
    "Speed limit (60 km/h)",
    "Speed limit (70 km/h)",
    "Speed limit (80 km/h)",
    "End of speed limit (80 km/h)",
    "Speed limit (100 km/h)",
    "Speed limit (120 km/h)",
    "No passing",
    "No passing for heavy vehicles",
    "Right of way at next intersection",
    "Priority road",
    "Yield",
    "Stop",
    "No vehicles",
    "Heavy vehicles prohibited",
    "No entry",
    "General caution",
    "Dangerous curve to the left",
    "Dangerous curve to the right",
    "Double curve",
    "Bumpy road",
    "Slippery road",
    "Road narrows on the right",
    "Road work",
    "Traffic signals",
    "Pedestrians",
    "Children crossing",
    "Bicycles crossing",
    "Beware of ice or snow",
    "Wild animals crossing",
    "End of all speed and passing limits",
    "Turn right ahead",
    "Turn left ahead",
    "Ahead only",
    "Go straight or right",
    "Go straight or left",
    "Keep right",
    "Keep left",
    "Roundabout mandatory",
    "End of no passing",
    "End of no passing for heavy vehicles",
)


def cifar10(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return CIFAR-10: 50,000 training and 10,000 test images. Raises: DatasetMissing."""
    dataset = _open("cifar10", torchvision.datasets.CIFAR10, root, train=part == "train", download=download)
    return _convert("cifar10", part, _move_channels_first(dataset.data), dataset.targets, dataset.classes)


def cifar100(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return CIFAR-100 with its fine labels: 50,000 training and 10,000 test images. Raises: DatasetMissing."""
    dataset = _open("cifar100", torchvision.datasets.CIFAR100, root, train=part == "train", download=download)
    return _convert("cifar100", part, _move_channels_first(dataset.data), dataset.targets, dataset.classes)


def mnist(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return MNIST: 60,000 training and 10,000 test images. Raises: DatasetMissing."""
    dataset = _open("mnist", torchvision.datasets.MNIST, root, train=part == "train", download=download)
    return _convert("mnist", part, dataset.data.unsqueeze(1), dataset.targets, DIGITS)


def fashion_mnist(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images. Raises: DatasetMissing."""
    dataset = _open("fashion-mnist", torchvision.datasets.FashionMNIST, root, train=part == "train", download=download)
    return _convert("fashion-mnist", part, dataset.data.unsqueeze(1), dataset.targets, dataset.classes)


def svhn(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return SVHN, cropped digits without the extra part: 73,257 training and 26,032 test images. Raises: DatasetMissing."""
    dataset = _open("svhn", torchvision.datasets.SVHN, root, split=part, download=download)
    return _convert("svhn", part, torch.from_numpy(dataset.data), dataset.labels, DIGITS)


def gtsrb(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return German traffic signs, each scaled to 32 × 32: 26,640 training and 12,630 test images. Raises: DatasetMissing."""
    dataset = _open("gtsrb", torchvision.datasets.GTSRB, root, split=part, download=download)
    images, labels = [], []
    for image, label in dataset:
        images.append(np.asarray(image.convert("RGB").resize((GTSRB_SIDE, GTSRB_SIDE))))
        labels.append(label)
    return _convert("gtsrb", part, _move_channels_first(np.stack(images)), labels, GTSRB_CLASSES)


def stl10(part: Part, root: Path | None, download: bool) -> LabelledImages:
    """Return STL-10, labelled images only: 5,000 training and 8,000 test images. Raises: DatasetMissing."""
    dataset = _open("stl10", torchvision.datasets.STL10, root, split=part, download=download)
    return _convert("stl10", part, torch.from_numpy(dataset.data), dataset.labels, dataset.classes)


def _open(name: str, dataset: Callable[..., Any], root: Path | None, **options: object) -> Any:  # noqa: ANN401 - untyped
    """Return torchvision's data set. Raises: DatasetMissing where files are missing, damaged or cannot be downloaded."""
    if root is None:
        raise DatasetMissing(
            f"Data set {name!r} is read from torchvision's files, and no folder was given for them.", remedy="data-root"
        )
    try:
        return dataset(root=root, **options)
    except (RuntimeError, OSError) as error:
        require_memory(error, f"to read data set {name!r}")
        reason = " ".join(str(error).split())[:200]
        if options["download"]:
            raise DatasetMissing(f"Data set {name!r} could not be downloaded into {root}: {reason}") from None
        missing_files = dataset_files.list_missing(name, root)
        fault = (
            f"was not found in {root}: {', '.join(missing_files)} missing"
            if missing_files
            else f"is damaged in {root}: {reason}"
        )
        raise DatasetMissing(f"Data set {name!r} {fault}.", remedy="data-root") from None


def _move_channels_first(images: np.ndarray) -> Tensor:
    """Return images n × h × w × c as n × c × h × w."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _convert(name: str, part: Part, images: Tensor, labels: object, class_names: object) -> LabelledImages:
    """Return the part as labelled images; labels of any kind become int64."""
    return LabelledImages(images, torch.as_tensor(labels).long(), tuple(class_names), name, part)  # type: ignore[arg-type]
