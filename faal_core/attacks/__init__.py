"""Attacks: functions from images to adversarial images. None reports on itself; `faal_core.evaluation` judges."""

from typing import Protocol, runtime_checkable

import torch

from faal_core.attacks.pgd import Pgd
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel


@runtime_checkable
class Attack(Protocol):
    """A search for misclassified images within a threat model."""

    def __call__(
        self, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, generator: torch.Generator
    ) -> Images:
        """Images near `x`, in its order, as far from being classified as `y` as the attack could bring them.

        The classifier is in eval mode, x lies in [0, 1]; all randomness comes from `generator`, which is on x's device.
        """
        ...


def build(spec: AttackSpec) -> Attack:
    """The attack with those hyper-parameters."""
    return Pgd(spec)
