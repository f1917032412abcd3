"""Searches whose images leave every few steps, as on a GPU, and at every step, as on a CPU."""

import pytest
import torch

from faal_core import attacks
from faal_core.attacks.ball import norms
from faal_core.attacks.losses import compute_gradient
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.search import STEPS_BETWEEN_WAITS, Search
from faal_core.errors import ClassifierUnsuitable
from faal_core.specs import ApgdSpec, AttackSpec, FabSpec, PgdSpec, SquareSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier, compute_smallest_radius

SHAPE = (2, 6, 5)
SPECS: tuple[AttackSpec, ...] = (
    PgdSpec(loss="margin", steps=20, relative_step=0.1),
    ApgdSpec(loss="margin", iterations=20),
    FabSpec(iterations=10, targets=1),
    SquareSpec(queries=60),
)


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.type)
@pytest.mark.parametrize("steps", [2, 7])
def test_images_that_leave_later_are_the_same(
    spec: AttackSpec, norm: Norm, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that leaves is returned as it was when it was first misclassified, whenever the batch becomes smaller."""
    classifier = build_linear_classifier(3, SHAPE)
    x = 0.5 + 0.02 * torch.randn(24, *SHAPE, generator=torch.Generator().manual_seed(4))
    y = classifier(x).argmax(1)
    threat = ThreatModel(norm=norm, epsilon=float(compute_smallest_radius(classifier, x, y, norm).median()) * 1.2)

    def attack() -> torch.Tensor:
        random = ImageRandom(range(24), torch.device("cpu"))
        return attacks.build(spec, 3).run(0, classifier, x, y, threat, random).detach()

    def find_broken(images: torch.Tensor) -> torch.Tensor:
        is_near = norms(images - x, norm) <= threat.epsilon + 1e-6
        return is_near & (classifier(images).argmax(1) != y)

    expected = attack()
    monkeypatch.setitem(STEPS_BETWEEN_WAITS, "cpu", steps)
    images = attack()
    assert 0 < find_broken(expected).sum() < 24
    assert torch.equal(find_broken(images), find_broken(expected))
    assert torch.allclose(images, expected, atol=1e-4)


def test_a_gradient_that_is_not_finite_is_an_error_at_the_next_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in the search counts, an image that left does not."""
    monkeypatch.setitem(STEPS_BETWEEN_WAITS, "cpu", 2)
    x = torch.full((2, 1, 1, 1), 0.5, requires_grad=True)
    search = Search(x.detach())
    search.leave(x.detach(), torch.tensor([True, False]))
    search.compute_gradient((x * torch.tensor([torch.inf, 1]).view(2, 1, 1, 1)).sum((1, 2, 3)), x)
    assert search.leave(x.detach(), torch.tensor([True, False])).tolist() == [1]
    x = torch.full((1, 1, 1, 1), 0.5, requires_grad=True)
    search.compute_gradient((x * torch.inf).sum((1, 2, 3)), x)
    assert search.leave(x.detach(), torch.tensor([False])) is None
    with pytest.raises(ClassifierUnsuitable, match="gradient is NaN or infinite"):
        search.leave(x.detach(), torch.tensor([False]))


def test_a_gradient_is_finite_even_if_its_sum_is_not() -> None:
    """Large finite slopes are returned as they are; an infinite one among small ones is an error."""
    x = torch.full((2, 1, 1, 2), 0.5, requires_grad=True)
    slopes = torch.full_like(x, 3e38).detach()
    assert torch.equal(compute_gradient((slopes * x).sum((1, 2, 3)), x), slopes)
    slopes[0, 0, 0, 0] = torch.inf
    slopes[1] = 1
    with pytest.raises(ClassifierUnsuitable, match="gradient is NaN or infinite"):
        compute_gradient((slopes * x).sum((1, 2, 3)), x)
