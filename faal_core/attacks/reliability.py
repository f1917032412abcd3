"""Signs that an audit's numbers are not to be trusted, looked for before the attacks are run."""

import torch

from faal_core.attacks.losses import cross_entropy
from faal_core.classifier import Classifier, Images, Labels
from faal_core.reports.documents import ReliabilityWarning

_MASKED_SHARE = 0.1  # of correctly classified images whose gradient vanishes


def examine(classifier: Classifier, x: Images, y: Labels) -> tuple[ReliabilityWarning, ...]:
    """What is suspicious about the classifier's answers to a sample of images, most serious first; often nothing.

    The classifier is in eval mode. Cost: two forward passes and one backward pass of the sample.
    Source: the red flags of Croce and Hein 2020 (AutoAttack) and Carlini et al. 2019 (On Evaluating Adversarial Robustness).
    """
    x = x.detach().requires_grad_()
    logits = classifier(x)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, y).sum(), x)
    with torch.no_grad():
        again = classifier(x)
    logits = logits.detach()
    found = [
        _not_repeatable((again - logits).abs().max().item(), logits.abs().max().item()),
        _probabilities(logits),
        _zero_gradients(gradient.flatten(1).abs().amax(1) == 0, logits.argmax(1) == y),
    ]
    return tuple(warning for warning in found if warning)


def _not_repeatable(difference: float, scale: float) -> ReliabilityWarning | None:
    if difference <= 1e-4 * max(scale, 1):
        return None
    return ReliabilityWarning(
        code="random-output",
        message="The same images get different logits each time.",
        evidence=f"largest difference {difference:.3g} between two forward passes in eval mode",
        advice="Remove the randomness or attack its expectation; a lucky draw is counted as robustness here.",
    )


def _probabilities(logits: torch.Tensor) -> ReliabilityWarning | None:
    sums = logits.sum(1)
    if bool((logits < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        return None
    return ReliabilityWarning(
        code="softmax-output",
        message="The network answers probabilities instead of logits.",
        evidence=f"all outputs lie in [0, 1] and sum to one within {(sums - 1).abs().max().item():.1e}",
        advice="Remove the final softmax: its saturation weakens gradient attacks and hides their failure.",
    )


def _zero_gradients(vanished: torch.Tensor, correct: torch.Tensor) -> ReliabilityWarning | None:
    count, of = int((vanished & correct).sum()), int(correct.sum())
    if count <= _MASKED_SHARE * of:
        return None
    return ReliabilityWarning(
        code="zero-gradient",
        message="The loss has no gradient at many images, so gradient attacks cannot move there.",
        evidence=f"{count} of {of} correctly classified images have a gradient of exactly zero",
        advice="Look for saturated logits, rounding or thresholds; trust only attacks that need no gradient.",
    )
