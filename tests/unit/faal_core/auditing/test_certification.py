"""Test certified images: bounds are sound, exact for linear classifiers, and audits leave these images out of the attacks."""

import operator
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.losses import margin_loss
from faal_core.auditing.certification import certify
from faal_core.auditing.certification.bounds import MarginBounds
from faal_core.auditing.certification.graph import trace
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress, TimeLimit
from faal_core.results.outcomes import read_outcomes
from faal_core.specs import AuditSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier, compute_smallest_radius
from tests.robust_networks import (
    BASE,
    CNN_A,
    Reference,
    needs_reference,
    robust_networks,  # noqa: F401 - a fixture
)

CPU = torch.device("cpu")
SHAPE = (1, 6, 5)
both_norms = pytest.mark.parametrize("norm", list(Norm))
SHORT = AuditSpec.model_validate({"threat": {"epsilon": 1e-6}, "attacks": [{"type": "pgd", "steps": 1}]})


class EveryLayer(nn.Module):
    """Has each layer that can be bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.conv3 = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.leaky, self.pool, self.average = nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.linear1, self.drop = nn.Linear(16, 12), nn.Dropout()
        self.bn2, self.linear2 = nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 16 × 16 images."""
        x = self.conv2(functional.relu(self.bn1(self.conv1(x))))
        x = operator.add(x, self.leaky(self.conv3(x)))
        x = torch.flatten(functional.adaptive_avg_pool2d(self.average(self.pool(x)), (2, 1)), 1).view(x.size(0), -1)
        logits: Tensor = self.linear2(torch.relu(self.bn2(self.drop(self.linear1(x)))))
        return logits


def build_every_layer() -> Classifier:
    """Return the network with random weights and statistics."""
    torch.manual_seed(0)
    network = EveryLayer()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data.uniform_(-1, 1)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return Classifier.wrap(network.eval(), num_classes=4, mean=0.5, std=0.25)


def evaluate_images(classifier: Classifier, x: Tensor) -> Evaluator:
    """Return an evaluator of images whose labels are the classifier's own predictions."""
    names = tuple(str(k) for k in range(classifier.num_classes))
    data = LabelledImages(x, classifier(x).argmax(1), names, "synthetic", "test")
    return Evaluator(classifier, data, device=CPU, batch_size=50, seed=0)


@both_norms
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_linear_classifiers_are_certified_up_to_their_radius(norm: Norm, factor: float) -> None:
    """At 0.95 × its smallest radius an image is certified; at 1.05 × it is not. So it is for the 20 clearest of 100 images."""
    classifier, generator = build_linear_classifier(3, SHAPE), torch.Generator().manual_seed(0)
    x = 0.5 + 0.05 * torch.randn(100, *SHAPE, generator=generator)
    y = classifier(x).argmax(1)
    radii = compute_smallest_radius(classifier, x, y, norm)
    for i in radii.argsort(descending=True)[:20].tolist():
        threat = ThreatModel(norm=norm, epsilon=factor * radii[i].item())
        bound = MarginBounds(trace(classifier), threat, 0).bound(x[i : i + 1], y[i : i + 1])
        assert (bound > 0).item() == (factor < 1)


@both_norms
def test_no_image_of_the_ball_has_a_smaller_margin_than_the_bound(norm: Norm) -> None:
    """Gradient ascent from 20 points finds no margin below the bounds; a tiny radius leaves 90 % of the margin."""
    classifier, generator = build_every_layer(), torch.Generator().manual_seed(1)
    x = torch.rand(8, 3, 16, 16, generator=generator)
    y, threat = classifier(x).argmax(1), ThreatModel(norm=norm, epsilon=0.02 if norm is Norm.LINF else 0.2)
    steps, ball = trace(classifier), Ball(x, threat)
    with torch.no_grad():
        assert torch.allclose(MarginBounds(steps, threat, 0).evaluate(x), classifier(x), atol=1e-4)
        loose, tight = (MarginBounds(steps, threat, rows).bound(x, y) for rows in (0, 10_000))
    lowest = torch.full((8,), torch.inf)
    for _ in range(20):
        noise = torch.randn(x.shape, generator=generator)
        x_adv = ball.project(x + threat.epsilon * noise / norms(noise, norm).view(-1, 1, 1, 1))
        for _ in range(50):
            x_adv.requires_grad_()
            loss = margin_loss(classifier(x_adv), y)
            lowest = torch.minimum(lowest, -loss.detach())
            (gradient,) = torch.autograd.grad(loss.sum(), x_adv)
            x_adv = ball.step(x_adv, gradient, 0.1 * threat.epsilon)
    assert (loose <= tight + 1e-4).all()
    assert (tight > loose + 1e-3).any()
    assert (tight <= lowest).all()
    tiny = ThreatModel(norm=norm, epsilon=threat.epsilon / 1000)
    assert (MarginBounds(steps, tiny, 0).bound(x, y) > -0.9 * margin_loss(classifier(x), y)).all()


@pytest.mark.parametrize("function", [torch.tanh, lambda x: (x > 0.5).float(), lambda x: x + torch.rand(()), torch.abs])
def test_unknown_operations_are_not_certified(function: Callable[[Tensor], Tensor]) -> None:
    """A network with another operation, or with random numbers, is never certified, and raises no error."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(30, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(function(x.flatten(1)))

    torch.manual_seed(0)
    evaluator = evaluate_images(Classifier.wrap(Network().eval(), num_classes=3), torch.rand(20, *SHAPE))
    specs = AuditSpec.model_validate({"threat": {"epsilon": 1e-6}, "attacks": "standard"}).attacks
    assert certify(evaluator, ThreatModel(epsilon=1e-6), specs, range(20), NoProgress()).rows == ()


class Repeats(nn.Module):
    """Adds one channel to each of three."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 3, 1), nn.Linear(3 * 30, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of grey images of 6 × 5."""
        return self.linear((self.conv(x) + x).flatten(1))


class Gates(Repeats):
    """Adds the mean of each channel to all its pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of grey images of 6 × 5."""
        h = self.conv(x)
        return self.linear((h + h.mean((2, 3), keepdim=True)).flatten(1))


@both_norms
@pytest.mark.parametrize("network", [Repeats, Gates, lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 3)).half()])
def test_networks_whose_bounds_would_be_wrong_are_not_certified(network: Callable[[], nn.Module], norm: Norm) -> None:
    """A sum that repeats values, and a network in another precision than float32 are not certified."""
    torch.manual_seed(0)
    evaluator = evaluate_images(Classifier.wrap(network().eval(), num_classes=3), torch.rand(20, *SHAPE))
    spec = AuditSpec.model_validate({"threat": {"epsilon": 1e-6, "norm": norm}, "attacks": "standard"})
    assert certify(evaluator, spec.threat, spec.attacks, range(20), NoProgress()).rows == ()
    assert run_audit(evaluator.classifier, evaluator.data, SHORT, name="odd", device=CPU).report.complete


def test_norms_are_computed_once_for_all_images() -> None:
    """For L2, the functions before the first ReLU are pulled back once, however many images follow; they count as cost."""
    classifier = build_every_layer()
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    bounds = MarginBounds(trace(classifier), ThreatModel(norm=Norm.L2, epsilon=0.1), 0)
    with torch.no_grad():
        first, _ = (bounds.bound(x[part], classifier(x[part]).argmax(1)) for part in (slice(4), slice(4, 8)))
    assert bounds.pulled == 6 * 16 * 16 + 8 * 3
    with torch.no_grad():
        alone = [
            MarginBounds(trace(classifier), ThreatModel(norm=Norm.L2, epsilon=0.1), 0).bound(
                x[i : i + 1], classifier(x[i : i + 1]).argmax(1)
            )
            for i in range(4)
        ]
    assert torch.allclose(first, torch.cat(alone), atol=1e-5)


def test_an_audit_without_time_certifies_nothing_for_good() -> None:
    """Where the time ends before all images are bounded, nothing is stored, so that a resumed audit bounds all of them."""
    classifier = build_linear_classifier(2, SHAPE)
    evaluator = evaluate_images(classifier, torch.rand(100, *SHAPE, generator=torch.Generator().manual_seed(0)))
    spec = AuditSpec.model_validate({"threat": {"epsilon": 1e-4}, "attacks": "standard"})
    assert certify(evaluator, spec.threat, spec.attacks, range(100), TimeLimit(0)) is None
    assert len(certify(evaluator, spec.threat, spec.attacks, range(100), NoProgress()).rows) == 100


def test_certified_images_are_reported_and_not_attacked(tmp_path: Path) -> None:
    """Attacks try the other images alone; report and stored outcomes count those that the closed form proves robust."""
    classifier = build_linear_classifier(2, SHAPE)
    x = 0.5 + 0.05 * torch.randn(100, *SHAPE, generator=torch.Generator().manual_seed(0))
    data = evaluate_images(classifier, x).data
    radii = compute_smallest_radius(classifier, data.pixels(torch.arange(100), CPU), data.labels, Norm.LINF)
    epsilon = radii.median().item() * 1.001
    request = {"threat": {"epsilon": epsilon}, "attacks": [{"type": "square", "queries": 100}]}
    result = run_audit(classifier, data, AuditSpec.model_validate(request), name="linear", device=CPU)
    report, proven = result.report, int((radii > epsilon).sum())
    assert sum(row.certified.count for row in report.classes if row.certified) == proven
    assert report.attacks[0].tried == 100 - proven
    assert all(row.certified and row.certified.count <= row.robust.count for row in report.classes)
    path = tmp_path / "outcomes.parquet"
    result.outcomes.write(path, report)
    assert read_outcomes(path, report).evaluation.certified.tolist() == (radii > epsilon).tolist()
    without = run_audit(
        classifier, data, AuditSpec.model_validate({**request, "certify": False}), name="linear", device=CPU
    )
    assert without.report.classes[0].certified is None
    assert without.outcomes.evaluation.robust[result.outcomes.evaluation.certified].all()


@needs_reference
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.slow
@pytest.mark.parametrize(("reference", "epsilon"), [(BASE, "2/255"), (CNN_A, "1/255")], ids=["cifar_base", "cnn_a_adv"])
def test_no_attack_breaks_a_certified_image(reference: Reference, epsilon: str, tmp_path: Path) -> None:
    """Of 200 images of a certifiably trained network, AutoAttack's protocol breaks none of those that are certified."""
    classifier, images = reference.classifier(tmp_path), reference.images()
    request = {"threat": {"epsilon": epsilon}, "attacks": "standard", "images": 200}
    certified = run_audit(classifier, images, AuditSpec.model_validate(request), name="with", device=CPU)
    attacked = run_audit(
        classifier, images, AuditSpec.model_validate({**request, "certify": False}), name="without", device=CPU
    )
    proven = certified.outcomes.evaluation.certified
    assert proven.sum() >= 30
    assert attacked.outcomes.evaluation.robust[proven].all()
