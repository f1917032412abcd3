"""Define the losses that attacks maximise: one value per image; margins and ratios are positive where it is misclassified.

Each takes logits `n k` and labels `n`; a targeted loss also takes the target classes, `n`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.classifier import Images, Labels, Logits, PerImage
from faal_core.errors import ClassifierUnsuitable

Loss = Callable[[Logits, Labels], PerImage]
_TINY = 1e-12  # keeps divisors positive where logits are equal


def select_logit(logits: Logits, classes: Labels) -> PerImage:
    """Return the logit of one class per image."""
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def cross_entropy(logits: Logits, y: Labels) -> PerImage:
    """Return the cross-entropy −log softmax(z)_y, in nats."""
    return functional.cross_entropy(logits, y, reduction="none")


def margin_loss(logits: Logits, y: Labels) -> PerImage:
    """Return the largest other logit minus that of the label: positive exactly where the image is misclassified.

    Source: Carlini and Wagner 2017, the objective f₆ of their section IV, without its floor.
    """
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.amax(1) - select_logit(logits, y)


def probability_margin_loss(logits: Logits, y: Labels) -> PerImage:
    """Return the margin loss of the softmax probabilities, in [−1, 1].

    Source: the loss of PMA (Xie et al. 2024, arXiv 2411.15210).
    """
    return margin_loss(logits.softmax(1), y)


def dlr(logits: Logits, y: Labels) -> PerImage:
    """Return the difference of logits ratio: the margin loss over the distance from the largest to the third largest logit.

    With two classes there is no third logit, and the margin loss itself is returned.

    Source: Croce and Hein 2020 (AutoAttack), eq. 6.
    """
    if logits.shape[1] < 3:
        return margin_loss(logits, y)
    top = logits.topk(3).values
    return margin_loss(logits, y) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Logits, y: Labels, target: Labels) -> PerImage:
    """Return the target's logit minus the label's, over the distance from the largest to the mean of the third and fourth.

    With three classes or fewer there is no fourth logit, and the difference alone is returned.

    Source: Croce and Hein 2020, eq. 7.
    """
    difference = select_logit(logits, target) - select_logit(logits, y)
    if logits.shape[1] < 4:
        return difference
    top = logits.topk(4).values
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


def compute_gradient(value: PerImage, x: Images, *, keep_graph: bool = False, check: bool = True) -> Images:
    """Return the gradient of each image's value with respect to its pixels; zero where no gradient flows, as at a threshold.

    Args:
        keep_graph: whether further gradients of the same forward pass follow.
        check: whether to check that the gradient is finite, for which the host waits for a GPU.
    Raises: ClassifierUnsuitable where the gradient is NaN or infinite: an attack that followed it would not move,
        unnoticed.
    """
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(
        value.sum(), x, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    if check and not math.isfinite(gradient.sum().item()):  # an infinite sum may come from large finite numbers
        require_finite_gradient(gradient.isfinite().all())
    return gradient


def require_finite_gradient(finite: Tensor) -> None:
    """Check one truth value on any device. Raises: ClassifierUnsuitable where it is false."""
    if not bool(finite):
        raise ClassifierUnsuitable(
            "The network's gradient is NaN or infinite at an image with pixels in [0, 1]. Attacks that follow gradients cannot "
            'judge this network. Audit it with attacks that need no gradient: [{"type": "square"}].'
        )


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "margin": margin_loss,
    "probability-margin": probability_margin_loss,
    "dlr": dlr,
}
