"""Check a classifier's gradients: losses that are flat, and attacks that do worse where they must do better."""

import numpy as np
import torch
from torch import Tensor

from faal_core.attacks.ball import direction, norms
from faal_core.attacks.losses import Loss, compute_gradient, cross_entropy, margin_loss
from faal_core.attacks.pgd import pgd
from faal_core.attacks.randomness import ImageRandom
from faal_core.classifier import Classifier, Images, Labels
from faal_core.errors import ClassifierUnsuitable
from faal_core.results.documents import ReliabilityWarning
from faal_core.results.intervals import mcnemar
from faal_core.specs import PgdSpec
from faal_core.threat_model import Norm, ThreatModel

# Fractions of the correctly classified images. Undefended, robust and untrained networks show 0 of both: a flat loss needs
# logits about 100 apart in float32, and an image that may become any other image always breaks.
_FLAT_FRACTION = 0.1
_SURVIVING_FRACTION = 0.05

# Significance level of the exact McNemar test between two attacks: below it, one attack is taken as the weaker one. 8 images lost
# and none gained are enough.
_SIGNIFICANCE = 0.01

_STEPS = PgdSpec(steps=10, loss="margin", random_start=False)
_BY_ENTROPY = PgdSpec(steps=10, random_start=False)
_ONE_STEP = PgdSpec(steps=1, relative_step=1.0, loss="margin", random_start=False)
_UNBOUNDED = ThreatModel(norm=Norm.LINF, epsilon=1.0)  # in L∞, pixels in [0, 1]: any image may become any other


def check_gradients(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> list[ReliabilityWarning]:
    """Return the warnings of `check_flat_losses` and `check_attack_strength`, or `nan-gradient` alone.

    A gradient that is NaN or infinite is no error here: an attack that meets it refuses the classifier, and Square needs
    none.
    """
    wider = _double(threat)  # more images break there, so that a difference shows
    try:
        broken_at_wider = _find_broken(classifier, x, y, wider, _STEPS)
        return [
            *check_flat_losses(classifier, x, y, wider, broken_at_wider),
            *check_attack_strength(classifier, x, y, threat, broken_at_wider),
        ]
    except ClassifierUnsuitable:
        pass
    start = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(margin_loss(classifier(start), y).sum(), start)
    non_finite = int((~gradient.isfinite()).flatten(1).any(1).sum())
    extent = (
        f"at {non_finite} of {len(x)} correctly classified images" if non_finite else f"on the way from {len(x)} images"
    )
    return [
        ReliabilityWarning(
            code="nan-gradient",
            message="The network's gradient is NaN or infinite, so attacks that follow gradients cannot judge the "
            "network.",
            evidence=f"a pixel's gradient is NaN or infinite {extent}",
            advice="Look for roots, logarithms and divisions at 0. Until then, use attacks without gradients (square); "
            "their rates are upper bounds.",
        )
    ]


def check_flat_losses(
    classifier: Classifier, x: Images, y: Labels, wider: ThreatModel, broken_by_margin: Tensor
) -> list[ReliabilityWarning]:
    """Return `zero-gradient` where every loss is flat, `saturated-logits` where only the cross-entropy is flat or misleads.

    The cross-entropy misleads long before it is flat at every pixel. So PGD must break as many images with it as with the
    margin.

    Args:
        wider: the audit's threat model with twice the radius.
        broken_by_margin: which images PGD breaks there by the margin, `n`, bool.
    """
    by_entropy, by_margin = (_find_stuck(classifier, x, y, loss, wider.norm) for loss in (cross_entropy, margin_loss))
    everywhere, saturated = int((by_entropy & by_margin).sum()), int((by_entropy & ~by_margin).sum())
    broken_by_entropy = _find_broken(classifier, x, y, wider, _BY_ENTROPY)
    warnings = []
    if everywhere > _FLAT_FRACTION * len(x):
        warnings.append(
            ReliabilityWarning(
                code="zero-gradient",
                message="The loss has no gradient at many images, so gradient attacks cannot move there.",
                evidence=f"{everywhere} of {len(x)} correctly classified images have no gradient of any loss",
                advice="Look for rounding, thresholds or a saturated output. Trust only attacks that need no gradient.",
            )
        )
    if saturated > _FLAT_FRACTION * len(x) or _clearly_fewer(broken_by_entropy, broken_by_margin):
        warnings.append(
            ReliabilityWarning(
                code="saturated-logits",
                message="Logits are so far apart that the cross-entropy gives attacks hardly any direction.",
                evidence=f"at {wider} PGD broke {_count(broken_by_entropy)} by the cross-entropy, {_count(broken_by_margin)} by "
                f"the margin; at {saturated} the cross-entropy has no gradient at all",
                advice="Divide the logits by a constant. Until then, trust only attacks that climb the margin or the "
                "DLR.",
            )
        )
    return warnings


def _find_stuck(classifier: Classifier, x: Images, y: Labels, loss: Loss, norm: Norm) -> Tensor:
    """Return which images an attack cannot move: the gradient is zero, or too small to normalise."""
    x = x.detach().requires_grad_()
    gradient = compute_gradient(loss(classifier(x), y), x)
    return ~(norms(direction(gradient, norm), norm) > 0.5)


def check_attack_strength(
    classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, broken_at_wider: Tensor
) -> list[ReliabilityWarning]:
    """Return `unbounded-attack-fails`, `larger-radius-breaks-fewer` and `more-steps-break-fewer` where they apply.

    All images must be classified correctly. PGD climbs the margin from the image itself, and only its last iterate
    counts: an earlier misclassified iterate would hide that the attack lost its way.

    Args:
        broken_at_wider: which images PGD breaks at twice the radius, `n`, bool.
    """
    one_step, many_steps, anywhere = (
        _find_broken(classifier, x, y, within, spec)
        for within, spec in ((threat, _ONE_STEP), (threat, _STEPS), (_UNBOUNDED, _STEPS))
    )
    warnings = []
    surviving = int((~anywhere).sum())
    one_answer = len(y.unique()) == 1  # such a classifier may give every image the same class
    if surviving > _SURVIVING_FRACTION * len(x) and not one_answer:
        warnings.append(
            ReliabilityWarning(
                code="unbounded-attack-fails",
                message="Images stay correctly classified under an attack that may change them into any other image.",
                evidence=f"{surviving} of {len(x)} correctly classified images survive 10 steps of PGD at {_UNBOUNDED}",
                advice="The gradients do not lead to misclassified images. Trust only attacks without gradients.",
            )
        )
    if _clearly_fewer(broken_at_wider, many_steps):
        warnings.append(
            ReliabilityWarning(
                code="larger-radius-breaks-fewer",
                message="An attack with a larger radius breaks clearly fewer images.",
                evidence=f"PGD broke {_count(many_steps)} at {threat}, {_count(broken_at_wider)} at {_double(threat)}",
                advice="The gradients mislead far from the image. Attack in many small steps, and without gradients.",
            )
        )
    if _clearly_fewer(many_steps, one_step):
        warnings.append(
            ReliabilityWarning(
                code="more-steps-break-fewer",
                message="An attack of many steps breaks clearly fewer images than one of a single step.",
                evidence=f"at {threat} one step broke {_count(one_step)}, 10 steps {_count(many_steps)}",
                advice="The gradients mislead near the image. Average them over its surroundings, or attack without "
                "gradients.",
            )
        )
    return warnings


def _double(threat: ThreatModel) -> ThreatModel:
    """Return the threat model with twice the radius, up to the pixel range."""
    doubled = min(2 * threat.epsilon, 1.0) if threat.norm is Norm.LINF else 2 * threat.epsilon
    return ThreatModel(norm=threat.norm, epsilon=doubled)


def _find_broken(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, spec: PgdSpec) -> Tensor:
    """Return which images are misclassified at PGD's last iterate."""
    no_random = ImageRandom((), x.device)
    x_adv = pgd(classifier, x, y, threat, spec, no_random, until_broken=False)
    with torch.no_grad():
        return classifier(x_adv).argmax(1) != y


def _clearly_fewer(stronger: Tensor, weaker: Tensor) -> bool:
    """Return whether the attack that must be stronger broke significantly fewer images."""
    gained, lost = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    return lost > gained and bool(mcnemar(np.array([gained]), np.array([lost]))[0] < _SIGNIFICANCE)


def _count(broken: Tensor) -> str:
    """Return "3 of 64 images"."""
    return f"{int(broken.sum())} of {len(broken)} images"
