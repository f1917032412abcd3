"""Signs in a classifier's answers: random ones, probabilities, neighbours that matter, pixels in another range."""

import torch

from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.results.documents import ReliabilityWarning
from faal_core.specs import ClassifierSpec

# Of the largest logit. The order of a device's sums, the only difference between two passes of batches of one size, changes
# it by about 1e-6; the noise of defences and the statistics of a batch by more than 1e-2.
_REPEATABLE = 1e-4

# Of the sample. A wrong range costs a trained classifier most of its accuracy; 16 of 64 images are four standard deviations
# of the difference between two guessing classifiers of ten classes.
_RANGE_GAIN = 0.25


def _difference(logits: Logits, others: Logits) -> float:
    """The largest difference, as a share of the largest logit or of 1."""
    return (logits - others).abs().max().item() / max(logits.abs().max().item(), 1)


def not_repeatable(logits: Logits, again: Logits) -> ReliabilityWarning | None:
    """`random-output` where two passes of the same images differ."""
    difference = _difference(logits, again)
    if difference <= _REPEATABLE:
        return None
    return ReliabilityWarning(
        code="random-output",
        message="The same images get different logits each time.",
        evidence=f"two forward passes in eval mode differ by {difference:.2g} of the largest logit",
        advice="Remove the randomness or attack its expectation; a lucky draw is counted as robustness here.",
    )


@torch.no_grad()
def batch_dependent(classifier: Classifier, x: Images, logits: Logits) -> ReliabilityWarning | None:
    """`batch-dependent` where the first half's logits change when the second half turns black.

    The batch keeps its size, so that a device computes both times in the same way.
    """
    half = len(x) // 2
    beside_black = x.clone()
    beside_black[half:] = 0
    difference = _difference(logits[:half], classifier(beside_black)[:half])
    if difference <= _REPEATABLE:
        return None
    return ReliabilityWarning(
        code="batch-dependent",
        message="An image's logits depend on the other images of its batch.",
        evidence=f"the logits of {half} images change by {difference:.2g} of the largest when the rest of the batch is black",
        advice="Use batch-norm's stored statistics: an image's rating here depends on which others were audited with it.",
    )


def probabilities(logits: Logits) -> ReliabilityWarning | None:
    """`softmax-output` where every row of `logits` is a distribution."""
    sums = logits.sum(1)
    if bool((logits < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        return None
    return ReliabilityWarning(
        code="softmax-output",
        message="The network answers probabilities instead of logits.",
        evidence=f"all outputs lie in [0, 1] and sum to one within {(sums - 1).abs().max().item():.1e}",
        advice="Remove the final softmax: its saturation weakens gradient attacks and hides their failure.",
    )


def levels_in_spec(spec: ClassifierSpec) -> ReliabilityWarning | None:
    """`pixel-range` where the normalisation is of no pixels in [0, 1]: a mean outside of it, or a std above 1."""
    if all(0 <= mean <= 1 for mean in spec.mean) and max(spec.std) <= 1:
        return None
    mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (spec.mean, spec.std))
    return ReliabilityWarning(
        code="pixel-range",
        message="The normalisation is not one of pixels in [0, 1], which the network is given.",
        evidence=f"mean {mean}; std {std}",
        advice="State mean and std of pixels in [0, 1]; those of levels 0 to 255 are divided by 255.",
    )


@torch.no_grad()
def other_range(classifier: Classifier, x: Images, y: Labels, correct: torch.Tensor) -> ReliabilityWarning | None:
    """`pixel-range` where the classifier is right about far more images once their pixels are moved to another range.

    It must beat the commonest class by as much, so that a classifier of one answer raises nothing. Where it is right about
    more than three quarters already, no such gain is left and no pixel outside [0, 1] is passed.
    """
    right = int(correct.sum())
    needed = max(right, int(y.bincount().max())) + _RANGE_GAIN * len(x)
    if needed > len(x):
        return None
    spread = x.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    moved = {
        "0 to 255": 255 * x,
        "−1 to 1": 2 * x - 1,
        "mean 0 and std 1 in each channel": (x - x.mean((0, 2, 3), keepdim=True)) / spread,
    }
    try:
        counts = {name: int((classifier(images).argmax(1) == y).sum()) for name, images in moved.items()}
    except (ValueError, AssertionError):  # it looks at its pixels itself
        return None
    best = max(counts, key=lambda name: counts[name])
    if counts[best] < needed:
        return None
    return ReliabilityWarning(
        code="pixel-range",
        message="The network expects pixels in another range than [0, 1], which it is given.",
        evidence=f"right about {right} of {len(x)} images; about {counts[best]} with pixels moved to {best}",
        advice="Put the normalisation of training into mean and std (mean 0 and std 1/255 make levels 0 to 255).",
    )
