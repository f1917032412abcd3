"""What an attack climbs: one value per image, positive margin meaning misclassified."""

import torch
from torch.nn import functional

from faal_core.classifier import Labels, Logits, PerImage


def cross_entropy(logits: Logits, y: Labels) -> PerImage:
    """The cross-entropy −log softmax(z)_y, in nats."""
    return functional.cross_entropy(logits, y, reduction="none")


def margin(logits: Logits, y: Labels) -> PerImage:
    """The largest other logit minus that of the label: positive exactly where the image is misclassified.

    Source: Carlini and Wagner 2017, the objective f₆ of their section IV, without its floor.
    """
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.amax(1) - logits.gather(1, y.unsqueeze(1)).squeeze(1)


LOSSES = {"cross-entropy": cross_entropy, "margin": margin}
