"""Test every attack against the closed form of linear classifiers: it breaks exactly the images that can be broken."""

import pytest
import torch

from faal_core.attacks import build
from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.square_windows import build_pattern
from faal_core.classifier import Classifier
from faal_core.specs import ApgdSpec, AttackSpec, FabSpec, PgdSpec, SquareSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier, build_one_boundary_classifier, compute_smallest_radius

Shape = tuple[int, int, int]

SHAPE = (3, 5, 7)
RADIUS = {Norm.LINF: 0.004, Norm.L2: 0.02}
UNTARGETED: list[AttackSpec] = [
    PgdSpec(loss="margin", steps=60, relative_step=0.1),
    ApgdSpec(),
    ApgdSpec(loss="margin"),
    ApgdSpec(loss="probability-margin"),
    ApgdSpec(loss="dlr"),
]
TARGETED: list[AttackSpec] = [ApgdSpec(loss="dlr", targets=9, iterations=50), FabSpec(iterations=50)]
SQUARE = SquareSpec(queries=3000)
every_number_of_classes = pytest.mark.parametrize("num_classes", [2, 3, 10, 200])
both_norms = pytest.mark.parametrize("norm", list(Norm))


def fraction_broken(classifier: Classifier, spec: AttackSpec, norm: Norm, factor: float, shape: Shape = SHAPE) -> float:
    """Return the fraction of 12 images that an attack breaks at `factor` × their smallest radius.

    Logits are linear in the image's distance from grey, so scaling that distance gives all images the same smallest
    radius.
    """
    directions = torch.randn(1000, *shape, generator=torch.Generator().manual_seed(1))
    y = classifier(0.5 + 0.01 * directions).argmax(1)
    radii = 100 * compute_smallest_radius(classifier, 0.5 + 0.01 * directions, y, norm)
    clearest = radii.argsort(descending=True)[:12]
    x, y = (0.5 + directions * (RADIUS[norm] / radii).view(-1, 1, 1, 1))[clearest], y[clearest]
    assert 0.1 < x.min() <= x.max() < 0.9
    threat, attack = ThreatModel(norm=norm, epsilon=factor * RADIUS[norm]), build(spec, classifier.num_classes)
    robust = torch.ones(len(x), dtype=torch.bool)
    for number in range(attack.runs):
        random = ImageRandom(range(100 * number, 100 * number + len(x)), x.device)
        x_adv = Ball(x, threat).project(attack.run(number, classifier, x, y, threat, random).detach())
        assert norms(x_adv - x, norm).max() <= threat.epsilon + 1e-6
        assert 0 <= x_adv.min() <= x_adv.max() <= 1
        robust &= classifier(x_adv).argmax(1) == y
    return 1 - robust.double().mean().item()


@both_norms
@every_number_of_classes
@pytest.mark.parametrize("spec", TARGETED, ids=str)
def test_targeted_attacks_break_every_image_just_beyond_its_radius(
    spec: AttackSpec, num_classes: int, norm: Norm
) -> None:
    """Every image is broken at 1.05 × its smallest radius, although the nearest class need not have the second largest logit."""
    assert fraction_broken(build_linear_classifier(num_classes, SHAPE), spec, norm, 1.05) == 1


@both_norms
@every_number_of_classes
@pytest.mark.parametrize("spec", [*UNTARGETED, *TARGETED], ids=str)
def test_every_gradient_attack_breaks_every_image_just_beyond_one_boundary(
    spec: AttackSpec, num_classes: int, norm: Norm
) -> None:
    """If one boundary is near, every image is broken at 1.05 × its distance, for any number of classes."""
    assert fraction_broken(build_one_boundary_classifier(num_classes, SHAPE), spec, norm, 1.05) == 1


@every_number_of_classes
def test_square_breaks_every_image_just_beyond_one_boundary(num_classes: int) -> None:
    """Square breaks every image at 1.05 × its L∞ distance to the boundary; images need not be square."""
    assert fraction_broken(build_one_boundary_classifier(num_classes, SHAPE), SQUARE, Norm.LINF, 1.05) == 1


@every_number_of_classes
def test_square_breaks_in_l2_what_its_windows_can_express(num_classes: int) -> None:
    """If the boundary's normal is the window's own pattern, Square breaks every image at 1.05 × its L2 distance."""
    classifier = build_one_boundary_classifier(num_classes, (1, 5, 5), build_pattern(5, torch.device("cpu")))
    assert fraction_broken(classifier, SQUARE, Norm.L2, 1.05, (1, 5, 5)) == 1


@both_norms
@every_number_of_classes
@pytest.mark.parametrize("spec", [*UNTARGETED, *TARGETED, SquareSpec(queries=500)], ids=str)
def test_no_attack_breaks_an_image_within_its_radius(spec: AttackSpec, num_classes: int, norm: Norm) -> None:
    """No attack breaks an image at 0.95 × its smallest radius."""
    assert fraction_broken(build_linear_classifier(num_classes, SHAPE), spec, norm, 0.95) == 0
