"""Attacks: functions from images to adversarial images. None reports on itself; `faal_core.audit.evaluator` judges."""

from typing import Protocol, runtime_checkable

from faal_core.attacks.apgd import Apgd
from faal_core.attacks.fab import Fab
from faal_core.attacks.pgd import Pgd
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.square import Square
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import ApgdSpec, AttackSpec, FabSpec, PgdSpec
from faal_core.threat_model import ThreatModel


@runtime_checkable
class Attack(Protocol):
    """A search for misclassified images within a threat model, in independent runs: restarts, or classes aimed at."""

    @property
    def runs(self) -> int:
        """How many there are; each gets only images that the runs before left unbroken."""

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: ImageRandom
    ) -> Images:
        """Images near `x`, in its order, as far from being classified as `y` as run `number` could bring them.

        The classifier is in eval mode and right about x, which lies in [0, 1]; all randomness comes from `random`.
        """


def build(spec: AttackSpec, num_classes: int) -> Attack:
    """The attack with those hyper-parameters, for classifiers of that many classes."""
    if isinstance(spec, PgdSpec):
        return Pgd(spec)
    if isinstance(spec, ApgdSpec):
        return Apgd(spec, num_classes)
    if isinstance(spec, FabSpec):
        return Fab(spec, num_classes)
    return Square(spec)
