"""Signs in how a classifier gives way: losses that are flat, and attacks that do worse where they must do better."""

import numpy as np
import torch
from torch import Tensor

from faal_core.attacks.ball import direction, norms
from faal_core.attacks.losses import Loss, cross_entropy, gradient_of, margin
from faal_core.attacks.pgd import pgd
from faal_core.attacks.randomness import ImageRandom
from faal_core.classifier import Classifier, Images, Labels
from faal_core.errors import ClassifierUnsuitable
from faal_core.results.documents import ReliabilityWarning
from faal_core.results.intervals import mcnemar
from faal_core.specs import PgdSpec
from faal_core.threat_model import Norm, ThreatModel

# Shares of the correctly classified images. Undefended, robust and untrained networks show 0 of both: a flat loss needs
# logits about 100 apart in float32, and an image that may become any other always falls.
_FLAT_SHARE = 0.1
_SURVIVING_SHARE = 0.05

# The chance that one of two equally strong attacks does worse than the other by as much (exact McNemar test): 8 images lost
# and none gained are enough.
_BY_CHANCE = 0.01

_STEPS = PgdSpec(steps=10, loss="margin", random_start=False)
_BY_ENTROPY = PgdSpec(steps=10, random_start=False)
_ONE_STEP = PgdSpec(steps=1, relative_step=1.0, loss="margin", random_start=False)
_UNBOUNDED = ThreatModel(norm=Norm.LINF, epsilon=1.0)  # any image may become any other


def gradient_checks(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> list[ReliabilityWarning]:
    """Return what `flat_losses` and `hampered_attacks` find, or `nan-gradient` alone where a gradient is NaN or infinite.

    A warning only: an attack that meets such a gradient itself refuses the classifier, and Square needs none.
    """
    try:
        return [*flat_losses(classifier, x, y, threat), *hampered_attacks(classifier, x, y, threat)]
    except ClassifierUnsuitable:
        pass
    at_start = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(margin(classifier(at_start), y).sum(), at_start)
    unusable = int((~gradient.isfinite()).flatten(1).any(1).sum())
    where = f"at {unusable} of {len(x)} correctly classified images" if unusable else f"on the way from {len(x)} images"
    return [
        ReliabilityWarning(
            code="nan-gradient",
            message="The network's gradient is NaN or infinite, so attacks that follow gradients cannot judge it.",
            evidence=f"a pixel's gradient is NaN or infinite {where}",
            advice="Look for roots, logarithms and divisions that meet 0; until then read the rates of attacks without gradients "
            "(square) as upper bounds.",
        )
    ]


def flat_losses(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> list[ReliabilityWarning]:
    """`zero-gradient` where no loss shows an attack a way, `saturated-logits` where the cross-entropy alone shows none.

    Long before it is flat at every pixel the cross-entropy misleads, so PGD must break as many with it as with the margin.
    """
    by_entropy, by_margin = (_stuck(classifier, x, y, loss, threat.norm) for loss in (cross_entropy, margin))
    everywhere, saturated = int((by_entropy & by_margin).sum()), int((by_entropy & ~by_margin).sum())
    wider = _doubled(threat)  # where more images can be broken, and a difference shows
    climbing_entropy, climbing_margin = (_broken(classifier, x, y, wider, spec) for spec in (_BY_ENTROPY, _STEPS))
    found = []
    if everywhere > _FLAT_SHARE * len(x):
        found.append(
            ReliabilityWarning(
                code="zero-gradient",
                message="The loss has no gradient at many images, so gradient attacks cannot move there.",
                evidence=f"{everywhere} of {len(x)} correctly classified images have no gradient of any loss",
                advice="Look for rounding, thresholds or a saturated output; trust only attacks that need no gradient.",
            )
        )
    if saturated > _FLAT_SHARE * len(x) or _clearly_fewer(climbing_entropy, climbing_margin):
        found.append(
            ReliabilityWarning(
                code="saturated-logits",
                message="Logits lie so far apart that the cross-entropy hardly shows an attack a way.",
                evidence=f"at {wider} PGD broke {_of(climbing_entropy)} by the cross-entropy, {_of(climbing_margin)} by the "
                f"margin; at {saturated} the cross-entropy has no gradient at all",
                advice="Divide the logits by a constant; until then trust only attacks that climb the margin or the DLR.",
            )
        )
    return found


def _stuck(classifier: Classifier, x: Images, y: Labels, loss: Loss, norm: Norm) -> Tensor:
    """At which images an attack cannot step: the gradient is zero, or too small to normalise."""
    x = x.detach().requires_grad_()
    gradient = gradient_of(loss(classifier(x), y), x)
    return ~(norms(direction(gradient, norm), norm) > 0.5)


def hampered_attacks(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> list[ReliabilityWarning]:
    """`unbounded-attack-fails`, `larger-radius-breaks-fewer` and `more-steps-break-fewer`, for images it is right about.

    PGD climbs the margin from the image itself, and its last iterate counts: one broken on the way would hide that the attack
    lost its way.
    """
    wider = _doubled(threat)
    one_step, many_steps, twice_as_far, anywhere = (
        _broken(classifier, x, y, within, spec)
        for within, spec in ((threat, _ONE_STEP), (threat, _STEPS), (wider, _STEPS), (_UNBOUNDED, _STEPS))
    )
    found = []
    surviving = int((~anywhere).sum())
    one_answer = len(y.unique()) == 1  # such a classifier may have no other to be driven to
    if surviving > _SURVIVING_SHARE * len(x) and not one_answer:
        found.append(
            ReliabilityWarning(
                code="unbounded-attack-fails",
                message="Images stay right under an attack that may change them into any other.",
                evidence=f"{surviving} of {len(x)} correctly classified images survive 10 steps of PGD at {_UNBOUNDED}",
                advice="The gradients do not lead to wrong answers: trust only attacks without gradients.",
            )
        )
    if _clearly_fewer(twice_as_far, many_steps):
        found.append(
            ReliabilityWarning(
                code="larger-radius-breaks-fewer",
                message="An attack with a larger radius breaks clearly fewer images.",
                evidence=f"PGD broke {_of(many_steps)} at {threat}, {_of(twice_as_far)} at {wider}",
                advice="The gradients mislead away from the image: attack in many small steps, and without gradients.",
            )
        )
    if _clearly_fewer(many_steps, one_step):
        found.append(
            ReliabilityWarning(
                code="more-steps-break-fewer",
                message="An attack of many steps breaks clearly fewer images than one of a single step.",
                evidence=f"at {threat} one step broke {_of(one_step)}, 10 steps {_of(many_steps)}",
                advice="The gradients mislead near the image: average them over its surroundings, or attack without any.",
            )
        )
    return found


def _doubled(threat: ThreatModel) -> ThreatModel:
    """Twice the radius, as far as pixels reach."""
    doubled = min(2 * threat.epsilon, 1.0) if threat.norm is Norm.LINF else 2 * threat.epsilon
    return ThreatModel(norm=threat.norm, epsilon=doubled)


def _broken(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, spec: PgdSpec) -> Tensor:
    """Which images PGD's last iterate turned wrong."""
    nothing_drawn = ImageRandom((), x.device)
    x_adv = pgd(classifier, x, y, threat, spec, nothing_drawn, until_broken=False)
    with torch.no_grad():
        return classifier(x_adv).argmax(1) != y


def _clearly_fewer(stronger: Tensor, weaker: Tensor) -> bool:
    """Whether the attack that must break more broke fewer, and not by chance."""
    gained, lost = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    return lost > gained and bool(mcnemar(np.array([gained]), np.array([lost]))[0] < _BY_CHANCE)


def _of(broken: Tensor) -> str:
    return f"{int(broken.sum())} of {len(broken)} images"
