"""Look for signs that an audit's numbers cannot be trusted: in the classifier, and in the results of the attacks.

A classifier without a warning can still mask its gradients.

Sources: the red flags of Croce and Hein 2020 (AutoAttack), Carlini et al. 2019 (On Evaluating Adversarial Robustness) and
    Athalye, Carlini and Wagner 2018 (Obfuscated Gradients).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from faal_core.auditing.reliability import outputs
from faal_core.auditing.reliability.gradients import GradientChecks
from faal_core.auditing.reliability.images import digest_pixels, digest_training_images, examine_images
from faal_core.auditing.reliability.predictions import check_class_sizes, examine_predictions
from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.devices import full_float32, require_room
from faal_core.errors import ClassifierUnsuitable
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.specs import AttackSpec, SquareSpec, TransferSpec
from faal_core.specs.escalation import RANDOM
from faal_core.threat_model import ThreatModel

__all__ = [
    "ClassifierChecks",
    "check_class_sizes",
    "digest_pixels",
    "digest_training_images",
    "examine_attacks",
    "examine_images",
    "examine_predictions",
]

_SQUARE_GAIN = 0.002  # fraction of all images; AutoAttack's own check allows the same


@dataclass(frozen=True)
class ClassifierChecks:
    """Examines a classifier on a sample of at least two images.

    The classifier must be in eval mode. No random numbers are used: the same arguments give the same warnings.

    Args:
        x, y: the sample and its labels.
        random_output: for the mean of several draws, the warnings that a single draw is random; they replace its own.
    """

    classifier: Classifier
    x: Images
    y: Labels
    threat: ThreatModel
    random_output: tuple[ReliabilityWarning, ...] | None = None

    @cached_property
    def about_outputs(self) -> tuple[ReliabilityWarning, ...]:
        """Return the warnings about outputs, the most fundamental first.

        Cost: 3 forward passes of the sample, 3 more where it is mostly misclassified; later calls are free.
        """
        classifier, x, y = self.classifier, self.x, self.y
        with require_room(len(x)), full_float32():
            with torch.no_grad():
                again = classifier(x)
            found = (
                outputs.check_repeatability(self._logits, again)
                or outputs.check_batch_dependence(classifier, x, self._logits),
                outputs.check_softmax(self._logits),
                outputs.check_normalisation(classifier.spec)
                or outputs.check_pixel_range(classifier, x, y, self._correct),
            )
        warnings = tuple(warning for warning in found if warning)
        if self.random_output is None:
            return warnings
        return (*self.random_output, *(warning for warning in warnings if warning.code != RANDOM))

    @cached_property
    def about_gradients(self) -> tuple[ReliabilityWarning, ...]:
        """Return the warnings about gradients.

        Cost: 48 forward and 43 backward passes of the correctly classified images: two gradients, and five attacks with 41
            steps together. None where `measure_gradients` has computed all; later calls are free.
        """
        with require_room(len(self.x)), full_float32():
            return self._gradients.warnings if len(self._gradients.x) else ()

    def measure_gradients(self) -> Iterator[None]:
        """Compute what `about_gradients` needs, one measurement at a time."""
        if not len(self._gradients.x):
            return
        for name in GradientChecks.MEASUREMENTS:
            try:
                with require_room(len(self.x)), full_float32():
                    getattr(self._gradients, name)
            except ClassifierUnsuitable:
                return  # `about_gradients` has a warning of that
            yield

    @property
    def warnings(self) -> tuple[ReliabilityWarning, ...]:
        """Return all warnings: those about outputs, then those about gradients."""
        return (*self.about_outputs, *self.about_gradients)

    @cached_property
    def _gradients(self) -> GradientChecks:
        chosen = self._correct
        return GradientChecks(self.classifier, self.x[chosen], self.y[chosen], self.threat)

    @cached_property
    def _logits(self) -> Logits:
        with require_room(len(self.x)), full_float32(), torch.no_grad():
            return self.classifier(self.x)

    @property
    def _correct(self) -> Tensor:
        """Return which images are classified correctly, `n`, bool."""
        return self._logits.argmax(1) == self.y


def examine_attacks(
    specs: tuple[AttackSpec, ...], rows: tuple[AttackRow, ...], images: int
) -> tuple[ReliabilityWarning, ...]:
    """Return warnings about the results of an audit's attacks, one row per attack in the order of the runs.

    Args:
        images: number of images in the audit.
    """
    # Attacks by the gradients of another network say nothing about the network's own.
    by_own = [not isinstance(spec, SquareSpec | TransferSpec) for spec in specs]
    first = by_own.index(True) if True in by_own else len(specs)
    by_gradients = sum(row.broken for row, own in zip(rows, by_own, strict=True) if own)
    after = [row for row, spec in list(zip(rows, specs, strict=True))[first:] if isinstance(spec, SquareSpec)]
    broken, tried = sum(row.broken for row in after), sum(row.tried for row in after[:1])
    # A single one of few images is a larger share, and shows nothing.
    if broken <= max(_SQUARE_GAIN * images, 1):
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
