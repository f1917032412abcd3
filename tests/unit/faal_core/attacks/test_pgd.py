"""Test PGD's bounds, cost and side effects; test_oracle.py tests its strength."""

import pytest
import torch

from faal_core.attacks import build
from faal_core.attacks.ball import norms
from faal_core.attacks.pgd import pgd
from faal_core.attacks.randomness import BatchRandom, ImageRandom
from faal_core.auditing.evaluator import record_passes
from faal_core.specs import PgdSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier


def images_near_grey(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return random images well inside the pixel box."""
    return 0.5 + 0.02 * torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", list(Norm))
def test_stays_in_the_threat_model(norm: Norm) -> None:
    """Adversarial images are in the ball and in [0, 1], also if the image touches the edge of the pixel box."""
    classifier = build_linear_classifier(10, (1, 6, 6))
    x = torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(3)).round()
    y = classifier(x).argmax(1)
    threat = ThreatModel(norm=norm, epsilon=0.3)
    x_adv = build(PgdSpec(steps=5), 10).run(0, classifier, x, y, threat, ImageRandom(range(50), x.device))
    assert norms(x_adv - x, norm).max() <= 0.3 + 1e-6
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


def test_broken_images_cost_nothing_more() -> None:
    """An audit stops passing an image once it is misclassified; in training every image takes every step."""
    classifier = build_linear_classifier(2, (1, 4, 4))
    x = images_near_grey(30, (1, 4, 4))
    y = 1 - classifier(x).argmax(1)  # all wrong from the start
    threat, spec = ThreatModel(epsilon=0.01), PgdSpec(steps=7, random_start=False)
    with record_passes(classifier) as passes:
        pgd(classifier, x, y, threat, spec, BatchRandom(torch.Generator()), until_broken=True)
    assert (passes.forward, passes.backward) == (30, 30)
    with record_passes(classifier) as passes:
        pgd(classifier, x, y, threat, spec, BatchRandom(torch.Generator()), until_broken=False)
    assert (passes.forward, passes.backward) == (210, 210)


def test_does_not_touch_its_input_or_weight_gradients() -> None:
    """An attack leaves the images it was given and the gradients of the weights as they were."""
    classifier = build_linear_classifier(10, (3, 4, 4))
    x = images_near_grey(8, (3, 4, 4))
    original, y = x.clone(), classifier(x).argmax(1)
    spec = PgdSpec(steps=3, random_start=False)
    build(spec, 10).run(0, classifier, x, y, ThreatModel(epsilon=0.1), ImageRandom(range(8), x.device))
    assert torch.equal(x, original)
    assert all(parameter.grad is None for parameter in classifier.parameters())
