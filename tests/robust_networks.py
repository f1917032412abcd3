"""Small robust networks of other projects, registered in the way a site registers its own: as an installed entry point.

`install` writes a dist-info folder, as `pip install` of a package with entry points does. The fixture `robust_networks` puts it
on the path of this process and of the child processes it starts.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core import datasets
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.specs import ClassifierSpec
from faal_core.weights import convert_checkpoint, read_classifier


class PlainBlock(nn.Module):
    """A residual block without batch-norm."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified sum of the shortcut and two convolutions."""
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4b(nn.Module):
    """alpha-beta-CROWN's ResNet-4B for CIFAR-10."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(PlainBlock(16, 32, 2), PlainBlock(32, 32, 1))
        self.layer2 = nn.Sequential(PlainBlock(32, 32, 2), PlainBlock(32, 32, 1))
        self.linear1 = nn.Linear(512, 100)
        self.linear2 = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 32 × 32 images."""
        features = self.layer2(self.layer1(functional.relu(self.conv1(x))))
        logits: Tensor = self.linear2(functional.relu(self.linear1(features.flatten(1))))
        return logits


class TradesSmallCnn(nn.Module):
    """TRADES' SmallCNN for MNIST."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3),
                relu2=nn.ReLU(),
                maxpool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3),
                relu4=nn.ReLU(),
                maxpool2=nn.MaxPool2d(2),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(1024, 200),
                relu1=nn.ReLU(),
                drop=nn.Dropout(0.5),
                fc2=nn.Linear(200, 200),
                relu2=nn.ReLU(),
                fc3=nn.Linear(200, num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 28 × 28 images."""
        logits: Tensor = self.classifier(self.feature_extractor(x).flatten(1))
        return logits


def _build_network(channels: int, width: int, padding: int, sizes: list[int]) -> nn.Sequential:
    """Return two 4 × 4 convolutions at stride 2 with `width` and twice as many channels, then linear layers of those sizes."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 4, stride=2, padding=padding),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
    ]
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cifar_cnn_a(num_classes: int, channels: int) -> nn.Sequential:
    """Return alpha-beta-CROWN's CNN-A."""
    return _build_network(channels, 16, 1, [2048, 100, num_classes])


def cifar_base(num_classes: int, channels: int) -> nn.Sequential:
    """Return alpha-beta-CROWN's base model."""
    return _build_network(channels, 8, 1, [1024, 100, num_classes])


def cifar_marabou_small(num_classes: int, channels: int) -> nn.Sequential:
    """Return alpha-beta-CROWN's small Marabou model, which is not robust."""
    return _build_network(channels, 8, 0, [576, 128, 64, num_classes])


ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {
    "resnet4b": "ResNet4b",
    "cifar_cnn_a": "cifar_cnn_a",
    "cifar_base": "cifar_base",
    "cifar_marabou_small": "cifar_marabou_small",
    "trades_small_cnn": "TradesSmallCnn",
}


def install(site: Path) -> None:
    """Write the networks into `site` as entry points `faal.architectures`; a Python with `site` on its path finds them."""
    info = site / "robust_networks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: robust-networks\nVersion: 1.0\n")
    points = "".join(f"{name} = tests.robust_networks:{builder}\n" for name, builder in NETWORKS.items())
    (info / "entry_points.txt").write_text(f"[faal.architectures]\n{points}")


@pytest.fixture
def robust_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the networks for this process and child processes, until the test ends."""
    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(tmp_path / "site")


# A folder: robust/ with the files, cifar10-test.npz and mnist-test.npz.
REFERENCE = os.environ.get("FAAL_REFERENCE_DATA")
needs_reference = pytest.mark.skipif(REFERENCE is None, reason="FAAL_REFERENCE_DATA names no folder")


@dataclass(frozen=True, slots=True)
class Reference:
    """A network's own file, and the data set it was trained on; `mean` and `std` are those of its training code."""

    file: str
    architecture: str
    data: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def classifier(self, folder: Path) -> Classifier:
        """Return the network after upload, conversion in `folder` and reading."""
        spec = ClassifierSpec(architecture=self.architecture, num_classes=10, mean=self.mean, std=self.std)
        upload = _convert_if_needed(Path(REFERENCE or "") / "robust" / self.file, folder)
        convert_checkpoint(upload, folder / "converted", spec)
        return read_classifier(folder / "converted")

    def images(self) -> LabelledImages:
        """Return the 10,000 test images."""
        return datasets.load(str(Path(REFERENCE or "") / f"{self.data}-test.npz"), "test")


def _convert_if_needed(path: Path, folder: Path) -> Path:
    """Return the file, or a converted one if it has the format of torch before 1.6 or its state dict is in a list."""
    if path.read_bytes()[:2] == b"PK":
        return path
    content = torch.load(path, map_location="cpu", weights_only=True)
    state_dict = content.get("state_dict", content)
    torch.save(state_dict if isinstance(state_dict, Mapping) else state_dict[0], folder / "anew.pt")
    return folder / "anew.pt"


RESNET4B = Reference("resnet4b.pth", "resnet4b", "cifar10", (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
CNN_A = Reference("cifar_cnn_a_adv.model", "cifar_cnn_a", "cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
BASE = Reference("cifar_base.pth", "cifar_base", "cifar10", (0.485, 0.456, 0.406), (0.225,) * 3)
MARABOU_SMALL = Reference("cifar_marabou_small.pth", "cifar_marabou_small", "cifar10", (0.0,) * 3, (1.0,) * 3)
TRADES = Reference("mnist_trades_smallcnn.pt", "trades_small_cnn", "mnist", (0.0,), (1.0,))
