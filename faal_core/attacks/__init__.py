"""Search for adversarial images: one module per attack, and `build`, which makes an attack from its spec.

An attack returns images and never judges them: `faal_core.auditing.evaluator` projects them and predicts again.

docs/how-to/add-attack.md lists the steps that add an attack.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, assert_never, runtime_checkable

from faal_core.attacks.apgd import Apgd
from faal_core.attacks.fab import Fab
from faal_core.attacks.pgd import Pgd
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.square import Square
from faal_core.attacks.transfer import Transfer
from faal_core.classifier import Classifier, Images, Labels
from faal_core.errors import InvalidSpec
from faal_core.specs import ApgdSpec, AttackSpec, FabSpec, PgdSpec, SquareSpec, TransferSpec
from faal_core.threat_model import ThreatModel


@runtime_checkable
class Attack(Protocol):
    """Searches for misclassified images within a threat model, in independent runs.

    A run is one restart, or one restart against one target class.
    """

    @property
    def runs(self) -> int:
        """Return the number of runs; each run gets only the images that no earlier run broke."""

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: ImageRandom
    ) -> Images:
        """Return images near `x`, in the same order, that run `number` (from 0) brought as far from class `y` as it could.

        The caller guarantees that the classifier is in eval mode, that it classifies `x` correctly, and that `x` is in
        [0, 1]. Take all random numbers from `random`.
        """


_NO_SOURCES: Mapping[str, Classifier] = MappingProxyType({})


def build(spec: AttackSpec, num_classes: int, sources: Mapping[str, Classifier] = _NO_SOURCES) -> Attack:
    """Return the attack with the hyper-parameters of `spec`, for classifiers of `num_classes` classes.

    Args:
        sources: networks whose gradients attacks may follow, by the digest of their weights.
    Raises: InvalidSpec for an attack whose source is not among them.
    """
    match spec:
        case PgdSpec():
            return Pgd(spec)
        case ApgdSpec():
            return Apgd(spec, num_classes)
        case FabSpec():
            return Fab(spec, num_classes)
        case SquareSpec():
            return Square(spec)
        case TransferSpec():
            if (source := sources.get(spec.source.sha256)) is None:
                raise InvalidSpec(
                    f"An attack follows the gradients of the network {spec.source}, which is missing.",
                    remedy="transfer",
                )
            return Transfer(spec, num_classes, source)
        case _:
            assert_never(spec)
