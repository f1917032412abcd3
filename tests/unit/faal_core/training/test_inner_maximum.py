"""The inner maximum of training on a linear classifier, whose worst images are known."""

import pytest
import torch

from faal_core.attacks.ball import norms
from faal_core.classifier import Classifier
from faal_core.specs import FinetuneSpec, TrainingAttack, TrainingSpec
from faal_core.threat_model import Norm, ThreatModel
from faal_core.training.inner_maximum import perturb, start_attack
from tests.linear_classifier import build_linear_classifier

SHAPE = (2, 6, 5)
RADII = torch.tensor([0.5, 1.0, 1.5, 0.0])


def perturb_images(
    classifier: Classifier,
    threat: ThreatModel,
    attack: TrainingAttack,
    relative_radius: torch.Tensor,
    max_images: int = 4,
) -> torch.Tensor:
    """Return the worst images of `problem`, from the start of the loss's ascent."""
    x, y = problem()
    spec = FinetuneSpec(threat=threat, training=TrainingSpec(attack=attack))
    batch = start_attack(x, y, relative_radius, spec, torch.Generator().manual_seed(1))
    return perturb(classifier, batch, spec, max_images)


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Return four images near grey and their labels."""
    x = 0.5 + 0.02 * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(4))
    return x, build_linear_classifier(2, SHAPE)(x).argmax(1)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "kl"])
@pytest.mark.parametrize("norm", list(Norm))
def test_each_image_goes_to_the_edge_of_its_own_ball(norm: Norm, loss: str) -> None:
    """Each image ends at ε · reach along the sign or direction of w₁ − w₀, because every loss of two classes rises along it."""
    classifier, (x, y), threat = build_linear_classifier(2, SHAPE), problem(), ThreatModel(norm=norm, epsilon=0.1)
    attack = TrainingAttack(steps=60, relative_step=0.3, loss=loss)
    x_adv = perturb_images(classifier, threat, attack, RADII)
    weight = classifier.backbone.linear.weight.detach()
    way = (weight[1] - weight[0]).view(SHAPE) * (1 - 2 * y.float()).view(-1, 1, 1, 1)
    way = way.sign() if norm is Norm.LINF else way / way[:1].norm()
    delta = (0.1 * RADII).view(-1, 1, 1, 1) * way
    assert norms(x_adv - x, norm).tolist() == pytest.approx((0.1 * RADII).tolist(), abs=1e-6)
    if loss == "kl":  # the divergence rises on both sides of the image
        assert torch.allclose((x_adv - x).abs(), delta.abs(), atol=1e-3)
    else:
        assert torch.allclose(x_adv - x, delta, atol=1e-3)


def test_weights_get_no_gradient_and_stay_trainable() -> None:
    """The attack computes gradients of the images alone, and the weights stay trainable."""
    classifier = build_linear_classifier(2, SHAPE)
    perturb_images(classifier, ThreatModel(epsilon=0.1), TrainingAttack(steps=2, loss="kl"), torch.ones(4))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize(("cache", "room"), [(3, 4), (9, 3)])
def test_in_pieces_it_is_the_same_search(cache: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image keeps its label, start and radius if the batch is cut into pieces for the cache or for memory."""
    classifier, (x, y) = build_linear_classifier(2, SHAPE), problem()
    monkeypatch.setattr(type(classifier), "images_in_cache", lambda *_: cache)
    attack = TrainingAttack(steps=60, relative_step=0.3, loss="margin")
    x_adv = perturb_images(classifier, ThreatModel(epsilon=0.1), attack, RADII, room)
    assert norms(x_adv - x, Norm.LINF).tolist() == pytest.approx((0.1 * RADII).tolist(), abs=1e-6)
    assert (classifier(x_adv).gather(1, y.unsqueeze(1)) <= classifier(x).gather(1, y.unsqueeze(1)) + 1e-6).all()
