"""Test the estimated cost of jobs against their real cost."""

from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from faal_core.auditing.evaluator import record_passes
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.networks import build
from faal_core.results import cost
from faal_core.results.documents import AuditReport
from faal_core.specs import ApgdSpec, AuditSpec, ClassifierSpec, FabSpec, FinetuneSpec, PgdSpec, SquareSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.recipe import train
from faal_core.weights import read_classifier

CPU = torch.device("cpu")
BUNDLED = Path(str(files("faal_core").joinpath("bundled/classifier.safetensors")))
ATTACKS = (
    PgdSpec(steps=3, restarts=2),
    ApgdSpec(iterations=4),
    ApgdSpec(loss="dlr", targets=12, iterations=3),
    FabSpec(targets=2, iterations=3, restarts=2),
    SquareSpec(queries=5),
)


def audit_random_network(epsilon: float) -> AuditReport:
    """Return the audit of a random network on 60 images under all attacks."""
    torch.manual_seed(0)
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    spec = AuditSpec(threat=ThreatModel(epsilon=epsilon), attacks=ATTACKS, images=60)
    return run_audit(classifier, load("fashion-mnist-subset", "test"), spec, name="random", device=CPU).report


def test_an_audit_takes_at_most_the_estimate() -> None:
    """If no attack breaks an image, each correct image takes all estimated passes, except queries that Square can skip."""
    report = audit_random_network(1e-9)
    right = report.clean.mean.count
    assert right > 0
    limits = [right * attack.passes(10) for attack in ATTACKS]
    took = [row.forward + row.backward for row in report.attacks]
    assert took[:-1] == limits[:-1]
    assert 0 < took[-1] <= limits[-1]
    assert cost.audit_cost(report.spec, 60, 10).most == 60 + 60 * sum(attack.passes(10) for attack in ATTACKS)


def test_the_likely_cost_follows_an_earlier_audit() -> None:
    """The likely cost of the same audit is its earlier cost, and for ten times the images ten times as much."""
    report = audit_random_network(0.05)
    took = cost.count_passes(report)
    assert took < cost.audit_cost(report.spec, 60, 10).most
    again, larger = (
        cost.audit_cost(report.spec.model_copy(update={"images": images}), 5000, 10, report).likely
        for images in (60, 600)
    )
    assert again == pytest.approx(took)
    assert larger == pytest.approx(10 * took)
    seconds = cost.seconds_per_pass(report)
    assert seconds is not None
    assert took * seconds == pytest.approx(sum(row.seconds for row in report.attacks))


@cache
def nearly_right() -> tuple[Classifier, LabelledImages]:
    """Return the bundled classifier with 20 images of each class that it gets right, and 9 that it nearly gets right.

    So nearly every image is attacked, and class offsets exist.
    """
    classifier, data = read_classifier(BUNDLED), load("fashion-mnist-subset", "train")
    with torch.no_grad():
        logits = classifier(data.pixels(slice(None), CPU))
    others = logits.scatter(1, data.labels.unsqueeze(1), -torch.inf).amax(1)
    margins = logits.gather(1, data.labels.unsqueeze(1)).squeeze(1) - others
    rows = [((margins > 0) & (data.labels == c)).nonzero().squeeze(1)[:20] for c in range(10)]
    wrong = ((margins < 0) & (data.labels == data.class_names.index("Shirt"))).nonzero().squeeze(1)
    rows.append(wrong[margins[wrong].topk(9).indices])
    return classifier, data.take(torch.cat(rows))


@pytest.mark.parametrize(
    "method",
    [
        {"class_offsets": False},
        {},
        {"type": "head"},
        {"type": "hwnwb"},
        pytest.param({"loss": "trades"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("validation_fraction", [0.4, pytest.param(0.7, marks=pytest.mark.slow)])
def test_a_training_takes_at_most_the_estimate(method: dict, validation_fraction: float) -> None:
    """If nearly every image is attacked to the end, a training takes 90 to 100 % of the estimated passes."""
    classifier, data = nearly_right()
    attack = {"steps": 2}
    training = {
        "learning_rates": [1e-6],
        "batch_size": 60,
        "validation_fraction": validation_fraction,
        "attack": attack,
    }
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 1e-9}, "method": method, "training": training})
    with record_passes(classifier) as passes:
        result = train(classifier, data, spec, device=CPU)
    assert (result.head.class_offsets is not None) == spec.begins_with_offsets
    most = cost.training_cost(spec, len(data), 10).most
    assert 0.9 * most <= passes.forward + passes.backward <= most
