"""Test surrogate gradients: a network computes its own values, and gets a gradient that leads somewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core.attacks.losses import compute_gradient
from faal_core.attacks.surrogate import surrogate_network
from faal_core.classifier import Classifier
from tests.linear_classifier import build_linear_classifier
from tests.planted_defences import LEVELS, Defended, code_by_winners, quantise, threshold

SHAPE = (1, 4, 4)
MIDDLES = (LEVELS[1:] + LEVELS[:-1]) / 2


def paint(x: Tensor) -> Tensor:
    """Write levels into the pixels above them, in place."""
    painted = torch.zeros_like(x)
    for level in (0.2, 0.4, 0.6, 0.8):
        painted[x > level] = level
    return painted


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "round": quantise,
    "round_": lambda x: (x * 8).round_() / 8,
    "bytes": lambda x: (x * 8).to(torch.uint8) / 8,
    "remainder": lambda x: x - x % 0.125,
    "quotient": lambda x: torch.div(x, 0.125, rounding_mode="floor") / 8,
    "thresholds": threshold,
    "sign": lambda x: torch.stack([torch.sign(x - level) for level in (0.2, 0.4, 0.6, 0.8)]).mean(0),
    "where": lambda x: torch.where(x > 0.7, 1.0, torch.where(~(x <= 0.3), 0.5, 0.0)),
    "and, or": lambda x: ((x > 0.3) & (x > 0.25)).float() + ((x > 0.7) | (x > 0.75)).float(),
    "masked fill": lambda x: torch.ones_like(x).masked_fill(x < 0.7, 0.5).masked_fill(x < 0.3, 0.0),
    "painted": paint,
    "table": lambda x: LEVELS[torch.bucketize(x, MIDDLES)],
    "nearest level": lambda x: LEVELS[(x.unsqueeze(-1) - LEVELS).abs().argmin(-1)],
    "one-hot": lambda x: (functional.one_hot((x.unsqueeze(-1) - LEVELS).abs().argmin(-1), 9) * LEVELS).sum(-1),
    "winners": code_by_winners,
    "detached": lambda x: x.detach(),
    "data": lambda x: x.data,
}


class Hidden(nn.Module):
    """A network that computes within a context."""

    def __init__(self, classifier: Classifier, context: Callable[[], torch.autograd.grad_mode.no_grad]) -> None:
        super().__init__()
        self.classifier, self.context = classifier, context

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        with self.context():
            return self.classifier(x)


def gradient_signs(classifier: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the signs of the first logit's surrogate gradient, and the logits that were computed with it."""
    x = x.clone().requires_grad_()
    logits = surrogate_network(classifier, x)(x)
    return compute_gradient(logits[:, 0], x).sign(), logits.detach()


@pytest.mark.parametrize("name", STEPS)
def test_rising_steps_get_a_rising_gradient(name: str) -> None:
    """In front of a linear network, the gradient at every pixel has the sign of the weight, and the logits are the network's."""
    linear = build_linear_classifier(3, SHAPE)
    classifier = Classifier.wrap(Defended(linear, STEPS[name]), num_classes=3).eval()
    x = 0.05 + 0.9 * torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    signs, logits = gradient_signs(classifier, x)
    expected = linear.backbone.linear.weight[0].sign().view(SHAPE).expand_as(x)
    assert (signs == expected).float().mean() > 0.99
    torch.testing.assert_close(logits, classifier(x).detach())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_parts_without_a_graph_are_differentiated(context: Callable[[], torch.autograd.grad_mode.no_grad]) -> None:
    """A network that records no graph has the gradient of the network that does."""
    linear = build_linear_classifier(3, SHAPE)
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    signs, _ = gradient_signs(Classifier.wrap(Hidden(linear, context), num_classes=3).eval(), x)
    assert torch.equal(signs, linear.backbone.linear.weight[0].sign().view(SHAPE).expand_as(x))


def test_arrays_outside_of_torch_have_no_gradient() -> None:
    """A network that leaves torch is computed, and its gradient is zero."""
    linear = build_linear_classifier(3, SHAPE)
    classifier = Classifier.wrap(
        Defended(linear, lambda x: torch.from_numpy(x.detach().numpy() + 0)), num_classes=3
    ).eval()
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    signs, logits = gradient_signs(classifier, x)
    assert not signs.any()
    torch.testing.assert_close(logits, classifier(x).detach())


def test_a_network_that_refuses_surrogates_keeps_its_gradients() -> None:
    """A network that fails where its images need a gradient beyond the first layer is returned itself."""
    linear = build_linear_classifier(3, SHAPE)

    def refuse(x: Tensor) -> Tensor:
        fixed = x.detach()
        if fixed.requires_grad:
            raise RuntimeError("no graph here")
        return fixed

    classifier = Classifier.wrap(Defended(linear, refuse), num_classes=3).eval()
    assert surrogate_network(classifier, torch.rand(2, *SHAPE)) is classifier


def test_nan_gradients_count_as_zero() -> None:
    """A root at 0 has an infinite slope, which does not stop the attack."""
    linear = build_linear_classifier(3, SHAPE)
    classifier = Classifier.wrap(Defended(linear, lambda x: (x - x.detach()).sqrt() + x), num_classes=3).eval()
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert compute_gradient(surrogate_network(classifier, x)(x)[:, 0], x).isfinite().all()
