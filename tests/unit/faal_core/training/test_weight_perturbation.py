"""Test the size and direction of the adversarial weight perturbation, and that it leaves no trace."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

import pytest
import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.specs import ClassifierSpec
from faal_core.training.weight_perturbation import perturb_layer, perturbed_weights


def network() -> Classifier:
    """Build a convolution, a batch-norm and a linear layer, in train mode."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))
    return Classifier(layers, ClassifierSpec(architecture="small_resnet", num_classes=3)).train()


def perturb_layers(
    classifier: Classifier, gamma: float, losses: Callable[[], Iterable[torch.Tensor]]
) -> AbstractContextManager[None]:
    """Return a context with the adversarial weight perturbation."""
    return perturbed_weights(classifier, partial(perturb_layer, gamma), losses)


X, Y = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def test_each_layer_moves_along_its_gradient_in_proportion_to_its_norm() -> None:
    """The perturbation is γ ‖W₀‖ g / ‖g‖ for weights of at least two dimensions, and zero for biases and batch-norm."""
    classifier = network()
    before = {name: value.detach().clone() for name, value in classifier.named_parameters()}

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(classifier(X), Y)

    gradients = dict(zip(before, torch.autograd.grad(loss(), list(classifier.parameters())), strict=True))
    with perturb_layers(classifier, 0.01, lambda: [loss()]):
        for name, value in classifier.named_parameters():
            g, w = gradients[name], before[name]
            expected = w + 0.01 * w.norm() * g / g.norm() if w.ndim > 1 else w
            assert torch.allclose(value, expected, atol=1e-6), name
        worse = loss().item()
    assert worse > loss().item()


def test_no_trace_is_left() -> None:
    """Afterwards weights are the same up to rounding, and batch-norm statistics and gradients exactly."""
    classifier = network()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with perturb_layers(classifier, 0.01, lambda: [nn.functional.cross_entropy(classifier(X), Y)]):
        pass
    for name, value in classifier.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-7) if "weight" in name else torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_a_step_within_is_kept() -> None:
    """A step that an optimiser takes within the perturbation is kept: the weights end at W₀ + its step."""
    classifier = network()
    weight = classifier.backbone[4].weight
    before = weight.detach().clone()
    with perturb_layers(classifier, 0.5, lambda: [nn.functional.cross_entropy(classifier(X), Y)]), torch.no_grad():
        weight += 1
    assert weight.flatten().tolist() == pytest.approx((before + 1).flatten().tolist(), abs=1e-5)


def test_losses_of_parts_add_up() -> None:
    """The gradients of two halves of a loss give the same perturbation as the whole loss, in eval mode."""
    weights = []
    for parts in (1, 2):
        classifier = network().eval()

        def losses(classifier: Classifier = classifier, parts: int = parts) -> list[torch.Tensor]:
            pairs = zip(X.chunk(parts), Y.chunk(parts), strict=True)
            return [nn.functional.cross_entropy(classifier(x), y, reduction="sum") for x, y in pairs]

        with perturb_layers(classifier, 0.1, losses):
            weights.append(classifier.backbone[4].weight.detach().clone())
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_an_error_within_takes_the_perturbation_away_too() -> None:
    """An error within the perturbation restores the weights."""
    classifier = network()
    before = classifier.backbone[4].weight.detach().clone()
    with (
        pytest.raises(RuntimeError, match="within"),
        perturb_layers(classifier, 0.5, lambda: [nn.functional.cross_entropy(classifier(X), Y)]),
    ):
        raise RuntimeError("within")
    assert torch.allclose(classifier.backbone[4].weight, before, atol=1e-6)
