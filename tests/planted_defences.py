"""Planted defences that hide a network's gradients, and change what it answers by little or nothing."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier

LEVELS = torch.linspace(0, 1, 9)
NOISE = 0.1  # standard deviation


def quantise(x: Tensor) -> Tensor:
    """Round pixels to 9 levels."""
    return (x * 8).round() / 8


def threshold(x: Tensor) -> Tensor:
    """Count the thresholds that a pixel exceeds."""
    return sum((x > level).float() for level in (0.1, 0.3, 0.5, 0.7, 0.9)) / 5  # type: ignore[return-value]


def code_by_winners(x: Tensor) -> Tensor:
    """Replace each pixel by the mean of the two levels that win a competition for it."""
    similarity = -(x.unsqueeze(-1) - LEVELS).abs()
    winners = torch.zeros_like(similarity).scatter(-1, similarity.topk(2, dim=-1).indices, 1.0)
    return (winners * LEVELS).sum(-1) / 2


def add_noise(x: Tensor) -> Tensor:
    """Add noise to the pixels."""
    return x + NOISE * torch.randn_like(x)


class Defended(nn.Module):
    """A classifier whose pixels, logits or whole computation a defence changes."""

    def __init__(
        self,
        classifier: Classifier,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
        *,
        hides_graph: bool = False,
    ) -> None:
        super().__init__()
        self.classifier, self.before, self.after, self.hides_graph = classifier, before, after, hides_graph

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        with torch.set_grad_enabled(not self.hides_graph and torch.is_grad_enabled()):
            return self.after(self.classifier(self.before(x)))


def plant(name: str, classifier: Classifier) -> Classifier:
    """Return the classifier behind the defence of that name."""
    defences = {
        "thresholds": Defended(classifier, threshold),
        "quantised input": Defended(classifier, quantise),
        "k-winners": Defended(classifier, code_by_winners),
        "random layer": Defended(classifier, add_noise),
        "no graph": Defended(classifier, hides_graph=True),
        "logits × 100": Defended(classifier, after=lambda z: 100 * z),
    }
    return Classifier.wrap(defences[name], num_classes=classifier.num_classes).eval()


PIXELS = {"thresholds": threshold, "quantised input": quantise, "k-winners": code_by_winners}
"""Rising step functions, by which defences change each pixel."""
