"""Look for signs that an audit's numbers cannot be trusted: before the attacks run, and in their results.

A classifier without a warning can still mask its gradients.

Sources: the red flags of Croce and Hein 2020 (AutoAttack), Carlini et al. 2019 (On Evaluating Adversarial Robustness) and
    Athalye, Carlini and Wagner 2018 (Obfuscated Gradients).
"""

import torch

from faal_core.auditing.reliability import gradients, outputs
from faal_core.auditing.reliability.images import digest_pixels, digest_training_images, examine_images
from faal_core.auditing.reliability.predictions import check_class_sizes, examine_predictions
from faal_core.classifier import Classifier, Images, Labels
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.specs import AttackSpec, SquareSpec
from faal_core.threat_model import ThreatModel

__all__ = [
    "check_class_sizes",
    "digest_pixels",
    "digest_training_images",
    "examine",
    "examine_attacks",
    "examine_images",
    "examine_predictions",
]

_SQUARE_GAIN = 0.002  # fraction of all images; AutoAttack's own check allows the same


def examine(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> tuple[ReliabilityWarning, ...]:
    """Return warnings about the classifier from a sample of at least two images, the most fundamental first.

    The classifier must be in eval mode. No random numbers are used: the same arguments give the same warnings.

    Cost: 3 forward passes of the sample, 3 more where it is mostly misclassified; and for the correctly classified images
        59 forward and 53 backward passes: two gradients, and six attacks with 51 steps together.
    """
    with torch.no_grad():
        logits, again = classifier(x), classifier(x)
    correct = logits.argmax(1) == y
    unstable = outputs.check_repeatability(logits, again) or outputs.check_batch_dependence(classifier, x, logits)
    warnings = [
        unstable,
        outputs.check_softmax(logits),
        outputs.check_normalisation(classifier.spec) or outputs.check_pixel_range(classifier, x, y, correct),
    ]
    if bool(correct.any()):
        warnings += gradients.check_gradients(classifier, x[correct], y[correct], threat)
    return tuple(warning for warning in warnings if warning)


def examine_attacks(
    specs: tuple[AttackSpec, ...], rows: tuple[AttackRow, ...], images: int
) -> tuple[ReliabilityWarning, ...]:
    """Return warnings about the results of an audit's attacks, one row per attack in the order of the runs.

    Args:
        images: number of images in the audit.
    """
    gradient_free = [isinstance(spec, SquareSpec) for spec in specs]
    first_gradient = gradient_free.index(False) if False in gradient_free else len(specs)
    by_gradients = sum(row.broken for row, free in zip(rows, gradient_free, strict=True) if not free)
    after = [row for row, free in list(zip(rows, gradient_free, strict=True))[first_gradient:] if free]
    broken, tried = sum(row.broken for row in after), sum(row.tried for row in after[:1])
    if broken <= _SQUARE_GAIN * images:
        return ()
    return (
        ReliabilityWarning(
            code="square-beats-gradients",
            message="An attack without gradients broke images that the attacks with gradients had left.",
            evidence=(
                f"Square broke {broken} of the {tried} images it was tried on, {broken / images:.2%} of all {images}; "
                f"up to {_SQUARE_GAIN:.1%} is normal; the attacks with gradients broke {by_gradients}"
            ),
            advice="The gradients mislead, or the attacks that follow them were too short. Use longer attacks. The "
            "robust rates are far too high.",
        ),
    )
