"""Check a classifier's gradients: losses that are flat, and attacks that do worse where they must do better."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True)
class GradientChecks:
    """Examines gradients, and what attacks do with them, on images that are all classified correctly.

    A network with random outputs draws from a state of its own, so it does not matter when a measurement is computed.

    PGD starts at the image itself, and only its last iterate counts: an earlier misclassified iterate would hide that the attack
    lost its way. Each measurement is computed once, when it is first asked for; `MEASUREMENTS` names all.

    Raises: ClassifierUnsuitable where a measurement meets a gradient that is NaN or infinite.
    """

    MEASUREMENTS = (
        "broken_at_wider",
        "stuck_by_entropy",
        "stuck_by_margin",
        "broken_by_entropy",
        "broken_by_one_step",
        "broken_by_many_steps",
        "broken_anywhere",
    )

    classifier: Classifier
    x: Images
    y: Labels
    threat: ThreatModel

    @property
    def wider(self) -> ThreatModel:
        """Return the threat model with twice the radius, up to the pixel range: more images break, so that a difference shows."""
        norm, doubled = self.threat.norm, 2 * self.threat.epsilon
        return ThreatModel(norm=norm, epsilon=min(doubled, 1.0) if norm is Norm.LINF else doubled)

    @cached_property
    def broken_at_wider(self) -> Tensor:
        """Return which images PGD breaks at twice the radius by the margin, `n`, bool."""
        return self._find_broken(self.wider, _STEPS)

    @cached_property
    def broken_by_entropy(self) -> Tensor:
        """Return which images PGD breaks at twice the radius by the cross-entropy, `n`, bool."""
        return self._find_broken(self.wider, _BY_ENTROPY)

    @cached_property
    def broken_by_one_step(self) -> Tensor:
        """Return which images one step breaks by the margin, `n`, bool."""
        return self._find_broken(self.threat, _ONE_STEP)

    @cached_property
    def broken_by_many_steps(self) -> Tensor:
        """Return which images ten steps break by the margin, `n`, bool."""
        return self._find_broken(self.threat, _STEPS)

    @cached_property
    def broken_anywhere(self) -> Tensor:
        """Return which images PGD breaks by the margin where any image may become any other, `n`, bool."""
        return self._find_broken(_UNBOUNDED, _STEPS)

    @cached_property
    def stuck_by_entropy(self) -> Tensor:
        """Return which images the cross-entropy gives no direction, `n`, bool."""
        return self._find_stuck(cross_entropy)

    @cached_property
    def stuck_by_margin(self) -> Tensor:
        """Return which images the margin gives no direction, `n`, bool."""
        return self._find_stuck(margin_loss)

    @property
    def warnings(self) -> tuple[ReliabilityWarning, ...]:
        """Return all warnings, or `nan-gradient` alone.

        A gradient that is NaN or infinite is no error here: an attack that meets it refuses the classifier, and Square
        needs none.
        """
        try:
            return (*self._check_flat_losses(), *self._check_attack_strength())
        except ClassifierUnsuitable:
            return (self._warn_of_non_finite(),)

    def _warn_of_non_finite(self) -> ReliabilityWarning:
        """Return `nan-gradient`."""
        start = self.x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(margin_loss(self.classifier(start), self.y).sum(), start)
        non_finite = int((~gradient.isfinite()).flatten(1).any(1).sum())
        count = len(self.x)
        extent = (
            f"at {non_finite} of {count} correctly classified images"
            if non_finite
            else f"on the way from {count} images"
        )
        return ReliabilityWarning(
            code="nan-gradient",
            message="The network's gradient is NaN or infinite, so attacks that follow gradients cannot judge the "
            "network.",
            evidence=f"a pixel's gradient is NaN or infinite {extent}",
            advice="Look for roots, logarithms and divisions at 0. Until then, use attacks without gradients (square); "
            "their rates are upper bounds.",
        )

    def _check_flat_losses(self) -> list[ReliabilityWarning]:
        """Return `zero-gradient` where every loss is flat, `saturated-logits` where only the cross-entropy is flat or misleads.

        The cross-entropy misleads long before it is flat at every pixel. So PGD must break as many images with it as with
        the margin.
        """
        everywhere = int((self.stuck_by_entropy & self.stuck_by_margin).sum())
        saturated = int((self.stuck_by_entropy & ~self.stuck_by_margin).sum())
        warnings = []
        if everywhere > _FLAT_FRACTION * len(self.x):
            warnings.append(
                ReliabilityWarning(
                    code="zero-gradient",
                    message="The loss has no gradient at many images, so gradient attacks cannot move there.",
                    evidence=f"{everywhere} of {len(self.x)} correctly classified images have no gradient of any loss",
                    advice="Look for rounding, thresholds or a saturated output. Trust only attacks that need no gradient.",
                )
            )
        if saturated > _FLAT_FRACTION * len(self.x) or _clearly_fewer(self.broken_by_entropy, self.broken_at_wider):
            warnings.append(
                ReliabilityWarning(
                    code="saturated-logits",
                    message="Logits are so far apart that the cross-entropy gives attacks hardly any direction.",
                    evidence=f"at {self.wider} PGD broke {_count(self.broken_by_entropy)} by the cross-entropy, "
                    f"{_count(self.broken_at_wider)} by the margin; at {saturated} the cross-entropy has no gradient at all",
                    advice="Divide the logits by a constant. Until then, trust only attacks that climb the margin or the "
                    "DLR.",
                )
            )
        return warnings

    def _check_attack_strength(self) -> list[ReliabilityWarning]:
        """Return `unbounded-attack-fails`, `larger-radius-breaks-fewer` and `more-steps-break-fewer` where they apply."""
        surviving = int((~self.broken_anywhere).sum())
        one_answer = len(self.y.unique()) == 1  # such a classifier may give every image the same class
        warnings = []
        if surviving > _SURVIVING_FRACTION * len(self.x) and not one_answer:
            warnings.append(
                ReliabilityWarning(
                    code="unbounded-attack-fails",
                    message="Images stay correctly classified under an attack that may change them into any other image.",
                    evidence=f"{surviving} of {len(self.x)} correctly classified images survive 10 steps of PGD at {_UNBOUNDED}",
                    advice="The gradients do not lead to misclassified images. Trust only attacks without gradients.",
                )
            )
        if _clearly_fewer(self.broken_at_wider, self.broken_by_many_steps):
            warnings.append(
                ReliabilityWarning(
                    code="larger-radius-breaks-fewer",
                    message="An attack with a larger radius breaks clearly fewer images.",
                    evidence=f"PGD broke {_count(self.broken_by_many_steps)} at {self.threat}, "
                    f"{_count(self.broken_at_wider)} at {self.wider}",
                    advice="The gradients mislead far from the image. Attack in many small steps, and without gradients.",
                )
            )
        if _clearly_fewer(self.broken_by_many_steps, self.broken_by_one_step):
            warnings.append(
                ReliabilityWarning(
                    code="more-steps-break-fewer",
                    message="An attack of many steps breaks clearly fewer images than one of a single step.",
                    evidence=f"at {self.threat} one step broke {_count(self.broken_by_one_step)}, "
                    f"10 steps {_count(self.broken_by_many_steps)}",
                    advice="The gradients mislead near the image. Average them over its surroundings, or attack without "
                    "gradients.",
                )
            )
        return warnings

    def _find_stuck(self, loss: Loss) -> Tensor:
        """Return which images an attack cannot move: the gradient is zero, or too small to normalise."""
        x, norm = self.x.detach().requires_grad_(), self.threat.norm
        with self._own_random_state():
            gradient = compute_gradient(loss(self.classifier(x), self.y), x)
        return ~(norms(direction(gradient, norm), norm) > 0.5)

    def _find_broken(self, threat: ThreatModel, spec: PgdSpec) -> Tensor:
        """Return which images are misclassified at PGD's last iterate."""
        no_random = ImageRandom((), self.x.device)
        with self._own_random_state():
            x_adv = pgd(self.classifier, self.x, self.y, threat, spec, no_random, until_broken=False)
            with torch.no_grad():
                return self.classifier(x_adv).argmax(1) != self.y

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Seed torch's generators within the block, and restore them at its end."""
        with torch.random.fork_rng([self.x.device] if self.x.device.type == "cuda" else []):
            torch.manual_seed(0)
            yield


def _clearly_fewer(stronger: Tensor, weaker: Tensor) -> bool:
    """Return whether the attack that must be stronger broke significantly fewer images."""
    gained, lost = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    return lost > gained and bool(mcnemar(np.array([gained]), np.array([lost]))[0] < _SIGNIFICANCE)


def _count(broken: Tensor) -> str:
    """Return "3 of 64 images"."""
    return f"{int(broken.sum())} of {len(broken)} images"
