"""Check a classifier's outputs: randomness, probabilities, influence of the batch, pixels in another range."""

import torch

from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.results.documents import ReliabilityWarning
from faal_core.specs import ClassifierSpec

# Fraction of the largest logit. Two passes of batches of one size differ only in the order of a device's sums, which changes
# logits by about 1e-6. The noise of defences and the statistics of a batch change them by more than 1e-2.
_REPEATABLE = 1e-4

# Fraction of the sample. A wrong range costs a trained classifier most of its accuracy; 16 of 64 images are four standard
# deviations of the difference between two guessing classifiers of ten classes.
_RANGE_GAIN = 0.25


def _measure_difference(logits: Logits, others: Logits) -> float:
    """Return the largest difference, as a fraction of the largest logit or of 1."""
    return (logits - others).abs().max().item() / max(logits.abs().max().item(), 1)


def check_repeatability(logits: Logits, again: Logits) -> ReliabilityWarning | None:
    """Return `random-output` where two passes of the same images differ."""
    difference = _measure_difference(logits, again)
    if difference <= _REPEATABLE:
        return None
    return ReliabilityWarning(
        code="random-output",
        message="The same images get different logits each time.",
        evidence=f"two forward passes in eval mode differ by {difference:.2g} of the largest logit",
        advice="Remove the randomness, or attack the expectation of the logits. This audit counts a lucky draw as "
        "robustness.",
    )


@torch.no_grad()
def check_batch_dependence(classifier: Classifier, x: Images, logits: Logits) -> ReliabilityWarning | None:
    """Return `batch-dependent` where the first half's logits change when the second half turns black; None for one image.

    The batch keeps its size, so that a device computes both times in the same way.
    """
    if len(x) < 2:
        return None
    half = len(x) // 2
    beside_black = x.clone()
    beside_black[half:] = 0
    difference = _measure_difference(logits[:half], classifier(beside_black)[:half])
    if difference <= _REPEATABLE:
        return None
    return ReliabilityWarning(
        code="batch-dependent",
        message="An image's logits depend on the other images of its batch.",
        evidence=f"the logits of {half} images change by {difference:.2g} of the largest when the rest of the batch is black",
        advice="Use batch-norm's stored statistics. In this audit an image's outcome depends on the other images of "
        "its batch.",
    )


def check_softmax(logits: Logits) -> ReliabilityWarning | None:
    """Return `softmax-output` where every row of `logits` is a distribution."""
    sums = logits.sum(1)
    if bool((logits < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        return None
    return ReliabilityWarning(
        code="softmax-output",
        message="The network returns probabilities instead of logits.",
        evidence=f"all outputs are in [0, 1] and sum to one within {(sums - 1).abs().max().item():.1e}",
        advice="Remove the final softmax. Its saturation weakens gradient attacks and hides their failure.",
    )


def check_normalisation(spec: ClassifierSpec) -> ReliabilityWarning | None:
    """Return `pixel-range` where the normalisation does not fit pixels in [0, 1]: a mean outside of it, or a std above 1."""
    if all(0 <= mean <= 1 for mean in spec.mean) and max(spec.std) <= 1:
        return None
    mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (spec.mean, spec.std))
    return ReliabilityWarning(
        code="pixel-range",
        message="Mean and std do not fit pixels in [0, 1], which FAAL feeds to the network.",
        evidence=f"mean {mean}; std {std}",
        advice="State mean and std for pixels in [0, 1]: divide those of levels 0 to 255 by 255.",
    )


@torch.no_grad()
def check_pixel_range(classifier: Classifier, x: Images, y: Labels, correct: torch.Tensor) -> ReliabilityWarning | None:
    """Return `pixel-range` where far more images are classified correctly once their pixels are moved to another range.

    The gain must also exceed what the commonest class would give, so that a classifier of one answer raises no warning.
    Where more than three quarters are classified correctly already, no such gain is possible and no pixel outside [0, 1]
    is passed.
    """
    right = int(correct.sum())
    needed = max(right, int(y.bincount().max())) + _RANGE_GAIN * len(x)
    if needed > len(x):
        return None
    spread = x.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    rescaled = {
        "0 to 255": 255 * x,
        "−1 to 1": 2 * x - 1,
        "mean 0 and std 1 in each channel": (x - x.mean((0, 2, 3), keepdim=True)) / spread,
    }
    try:
        counts = {name: int((classifier(images).argmax(1) == y).sum()) for name, images in rescaled.items()}
    except (ValueError, AssertionError):  # the network checks its pixels' range itself
        return None
    best = max(counts, key=lambda name: counts[name])
    if counts[best] < needed:
        return None
    return ReliabilityWarning(
        code="pixel-range",
        message="The network expects pixels in another range than [0, 1], which FAAL feeds to it.",
        evidence=f"{right} of {len(x)} images are classified correctly; {counts[best]} with pixels moved to {best}",
        advice="Put the normalisation of training into mean and std (mean 0 and std 1/255 make levels 0 to 255).",
    )
