"""Other projects' robust networks: real uploads, and their published clean and robust accuracies."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from faal_core import catalog
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.progress import NoProgress
from faal_core.specs import PgdSpec
from faal_core.threat_model import ThreatModel
from tests.robust_networks import (
    BASE,
    CNN_A,
    MARABOU_SMALL,
    NETWORKS,
    RESNET4B,
    TRADES,
    Reference,
    needs_reference,
    robust_networks,  # noqa: F401 - a fixture
)

TRADES_PGD = PgdSpec(steps=40, relative_step=0.1)  # step 0.01 at ε 0.1


@needs_reference
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("network", "accuracy"),
    [(RESNET4B, 0.772), (CNN_A, 0.698), (BASE, 0.585), (MARABOU_SMALL, 0.631), (TRADES, 0.995)],
    ids=str,
)
def test_reaches_its_known_accuracy(network: Reference, accuracy: float, tmp_path: Path) -> None:
    """After upload, conversion and reading, the network has its published accuracy on the 10,000 test images.

    Source: the accuracies published beside the files, rounded to one decimal of a per cent.
    """
    classifier, test = network.classifier(tmp_path), network.images()
    with torch.no_grad():
        rows = torch.arange(len(test)).split(500)
        predictions = torch.cat([classifier(test.pixels(few, torch.device("cpu"))).argmax(1) for few in rows])
    assert (predictions == test.labels).double().mean().item() == pytest.approx(accuracy, abs=0.00051)


@needs_reference
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("network", "attack", "epsilon", "accuracy"),
    [
        (RESNET4B, PgdSpec(steps=20), "2/255", 0.61),
        (RESNET4B, PgdSpec(steps=20), "4/255", 0.42),
        (RESNET4B, PgdSpec(steps=20), "8/255", 0.16),
        (TRADES, TRADES_PGD, 0.1, 0.988),
    ],
    ids=str,
)
def test_reaches_its_known_accuracy_under_pgd(
    network: Reference, attack: PgdSpec, epsilon: float | str, accuracy: float, tmp_path: Path
) -> None:
    """The accuracy under PGD on the first 500 test images is within half a point of the published one, which is rounded."""
    assert measure_accuracy(network, attack, epsilon, tmp_path) == pytest.approx(accuracy, abs=0.006)


@needs_reference
@pytest.mark.usefixtures("robust_networks")
def test_a_known_accuracy_of_unknown_step_is_between_those_of_two_steps(tmp_path: Path) -> None:
    """The published 94.0 % of TRADES' network at 0.3 is between its accuracies under PGD-40 with steps of 0.03 and of 0.01."""
    large, small = (
        measure_accuracy(TRADES, PgdSpec(steps=40, relative_step=step / 0.3), 0.3, tmp_path) for step in (0.03, 0.01)
    )
    assert 0.92 < large < 0.940 < small < 0.96


def measure_accuracy(network: Reference, attack: PgdSpec, epsilon: float | str, folder: Path) -> float:
    """Return the fraction of the first 500 test images that are correct after the attack."""
    classifier, test = network.classifier(folder), network.images().take(torch.arange(500))
    evaluator = Evaluator(classifier, test, device=torch.device("cpu"), batch_size=250, seed=0)
    evaluation, _ = evaluate(evaluator, ThreatModel(epsilon=epsilon), (attack,), NoProgress())
    return float(evaluation.robust.mean())


@pytest.mark.usefixtures("robust_networks")
def test_installed_networks_are_listed_here_and_in_child_processes() -> None:
    """A site's entry points appear in the catalog and can be built, also in a child process."""
    assert NETWORKS.keys() <= catalog.architectures().keys()
    program = """
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
spec = ClassifierSpec(architecture="resnet4b", num_classes=10, mean=(0, 0, 0), std=(1, 1, 1))
print(type(build(spec).backbone).__name__)
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout == "ResNet4b\n"
