"""Bad classifiers raise their own warning, good ones none."""

import pytest
import torch
from torch import Tensor, nn

from faal_core.attacks.reliability import examine
from faal_core.classifier import Classifier
from tests.linear_classifier import linear_classifier

SHAPE = (1, 5, 5)


class After(nn.Module):
    """Another network's logits, changed."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, x: Tensor) -> Tensor:
        """The changed logits."""
        z = self.network(x)
        if self.kind == "random-output":
            return z + 0.1 * torch.randn_like(z)
        if self.kind == "softmax-output":
            return z.softmax(1)
        return self.network((x * 4).round() / 4) + 0 * z  # rounding has no gradient


def images() -> Tensor:
    """Images near grey."""
    return 0.5 + 0.05 * torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["random-output", "softmax-output", "zero-gradient"])
def test_each_bad_classifier_raises_its_own_warning(kind: str) -> None:
    """Random logits, probabilities and rounded inputs are each named, with evidence and advice, and nothing else is."""
    good = linear_classifier(10, SHAPE)
    bad = Classifier(After(good.backbone, kind), good.spec).eval()
    x = images()
    (warning,) = examine(bad, x, bad(x).argmax(1))
    assert warning.code == kind
    assert warning.evidence
    assert warning.advice


@pytest.mark.parametrize("num_classes", [2, 10])
def test_a_good_classifier_raises_none(num_classes: int) -> None:
    """Plain logits with a gradient give no warning."""
    good = linear_classifier(num_classes, SHAPE)
    x = images()
    assert examine(good, x, good(x).argmax(1)) == ()


def test_saturated_logits_have_no_gradient() -> None:
    """Logits so large that the softmax saturates leave no gradient of the cross-entropy, which is said."""
    saturated = linear_classifier(10, SHAPE)
    saturated.backbone.linear.weight.data *= 1e4
    saturated.backbone.linear.bias.data *= 1e4
    x = images()
    assert [warning.code for warning in examine(saturated, x, saturated(x).argmax(1))] == ["zero-gradient"]
