"""Other projects' robust networks: real uploads, and their published clean accuracies.

FAAL_REFERENCE_DATA names a folder with robust/ (the networks' own files), cifar10-test.npz and mnist-test.npz.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from faal_core import catalog, datasets
from faal_core.evaluation import Evaluator, evaluate
from faal_core.progress import NoProgress
from faal_core.specs import ClassifierSpec, PgdSpec
from faal_core.threat_model import ThreatModel
from faal_core.weights import convert_checkpoint, read_classifier
from tests.robust_networks import NETWORKS, robust_networks  # noqa: F401 - a fixture

REFERENCE = os.environ.get("FAAL_REFERENCE_DATA")
RESNET4B = ((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
TRADES_PGD = PgdSpec(steps=40, relative_step=0.1)  # step 0.01 at ε 0.1
NONE = {3: ((0.0,) * 3, (1.0,) * 3), 1: ((0.0,), (1.0,))}


def usable(path: Path, folder: Path) -> Path:
    """The file, saved anew where it is in the format of torch before 1.6 or its state dict lies in a list."""
    if path.read_bytes()[:2] == b"PK":
        return path
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    state_dict = loaded.get("state_dict", loaded)
    torch.save(state_dict if isinstance(state_dict, Mapping) else state_dict[0], folder / "anew.pt")
    return folder / "anew.pt"


@pytest.mark.skipif(REFERENCE is None, reason="FAAL_REFERENCE_DATA names no folder")
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("file", "architecture", "data", "mean", "std", "accuracy"),
    [
        ("resnet4b.pth", "resnet4b", "cifar10", (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616), 0.772),
        ("cifar_cnn_a_adv.model", "cifar_cnn_a", "cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 0.698),
        ("cifar_base.pth", "cifar_base", "cifar10", (0.485, 0.456, 0.406), (0.225,) * 3, 0.585),
        ("cifar_marabou_small.pth", "cifar_marabou_small", "cifar10", *NONE[3], 0.631),
        ("mnist_trades_smallcnn.pt", "trades_small_cnn", "mnist", *NONE[1], 0.995),
    ],
)
def test_reaches_its_known_accuracy(
    file: str,
    architecture: str,
    data: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    accuracy: float,
    tmp_path: Path,
) -> None:
    """Uploaded, converted and read again, the network is right on its known share of the 10,000 test images.

    Source: the shares known beside the files, rounded to one decimal of a per cent.
    """
    spec = ClassifierSpec(architecture=architecture, num_classes=10, mean=mean, std=std)
    upload = usable(Path(REFERENCE or "") / "robust" / file, tmp_path)
    convert_checkpoint(upload, tmp_path / "converted", spec)
    classifier = read_classifier(tmp_path / "converted")
    test = datasets.load(str(Path(REFERENCE or "") / f"{data}-test.npz"), "test")
    with torch.no_grad():
        rows = torch.arange(len(test)).split(500)
        predicted = torch.cat([classifier(test.pixels(few, torch.device("cpu"))).argmax(1) for few in rows])
    assert (predicted == test.labels).double().mean().item() == pytest.approx(accuracy, abs=0.00051)


@pytest.mark.skipif(REFERENCE is None, reason="FAAL_REFERENCE_DATA names no folder")
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("file", "architecture", "data", "mean", "std", "attack", "epsilon", "accuracy"),
    [
        ("resnet4b.pth", "resnet4b", "cifar10", *RESNET4B, PgdSpec(steps=20), "2/255", 0.61),
        ("resnet4b.pth", "resnet4b", "cifar10", *RESNET4B, PgdSpec(steps=20), "4/255", 0.42),
        ("resnet4b.pth", "resnet4b", "cifar10", *RESNET4B, PgdSpec(steps=20), "8/255", 0.16),
        ("mnist_trades_smallcnn.pt", "trades_small_cnn", "mnist", *NONE[1], TRADES_PGD, 0.1, 0.988),
        ("mnist_trades_smallcnn.pt", "trades_small_cnn", "mnist", *NONE[1], TRADES_PGD, 0.3, 0.940),
    ],
)
def test_reaches_its_known_accuracy_under_pgd(
    file: str,
    architecture: str,
    data: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    attack: PgdSpec,
    epsilon: float | str,
    accuracy: float,
    tmp_path: Path,
) -> None:
    """PGD leaves the known share of the first 500 test images right, within half a point (the known ones are rounded)."""
    convert_checkpoint(
        usable(Path(REFERENCE or "") / "robust" / file, tmp_path),
        tmp_path / "converted",
        ClassifierSpec(architecture=architecture, num_classes=10, mean=mean, std=std),
    )
    test = datasets.load(str(Path(REFERENCE or "") / f"{data}-test.npz"), "test").take(torch.arange(500))
    classifier = read_classifier(tmp_path / "converted")
    evaluator = Evaluator(classifier, test, device=torch.device("cpu"), batch_size=250, seed=0)
    evaluation, _ = evaluate(evaluator, ThreatModel(epsilon=epsilon), (attack,), NoProgress())
    assert evaluation.robust.mean() == pytest.approx(accuracy, abs=0.006)


@pytest.mark.usefixtures("robust_networks")
def test_installed_networks_are_listed_here_and_in_child_processes() -> None:
    """A site's entry points appear in the catalog by name and build, also in a process started from here."""
    assert NETWORKS.keys() <= catalog.architectures().keys()
    program = """
from faal_core.architectures import build
from faal_core.specs import ClassifierSpec
spec = ClassifierSpec(architecture="resnet4b", num_classes=10, mean=(0, 0, 0), std=(1, 1, 1))
print(type(build(spec).backbone).__name__)
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout == "ResNet4b\n"
