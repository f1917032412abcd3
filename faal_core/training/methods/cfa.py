"""CFA: each class is attacked and regularised as far as it can bear, by its robust accuracy in the epoch before."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import CfaMethod
from faal_core.training.methods.method import Emphasis, Method
from faal_core.training.survey import Surveyed

_BASE_RADIUS = {"at": 0.5, "trades": 0.3}


class Cfa(Method):
    """Class-wise calibrated fair adversarial training.

    Source: Wei et al., CVPR 2023, eq. 6 and 8; its fairness-aware averaging is `training.averaging` with `least_worst`.
    Differs: the first epoch goes by held-out images, since no epoch is before it; steps scale with the radii.
    """

    accuracy: Tensor
    correct: Tensor
    seen: Tensor

    def __init__(self, spec: CfaMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        self._base_radius = _BASE_RADIUS[spec.loss] if spec.base_radius is None else spec.base_radius
        for name in ("accuracy", "correct", "seen"):
            self.register_buffer(name, torch.zeros(num_classes))

    def begin_epoch(self, epoch: int, surveyed: Surveyed) -> None:
        """Takes the robust accuracy of the training images of the last epoch."""
        if epoch == 0:
            self.accuracy = surveyed("held out").robust.float()
        else:
            self.accuracy = torch.where(self.seen > 0, self.correct / self.seen.clamp_min(1), self.accuracy)
        self.correct.zero_()
        self.seen.zero_()

    @property
    def reach(self) -> Tensor:
        """λ1 plus the class's robust accuracy."""
        return self._base_radius + self.accuracy

    def emphasis(self, adversarial_logits: Logits, y: Labels) -> Emphasis:
        """(classification + β_y · divergence) / (1 + β_y) for trades; neutral for at."""
        if self._spec.loss == "at":
            return Emphasis(self.neutral, self.neutral)
        beta = (self._spec.base_beta + self.accuracy) * self.beta
        return Emphasis(1 / (1 + beta), beta / (1 + beta))

    def note(self, adversarial_logits: Logits, y: Labels) -> None:
        """Counts which adversarial images were classified correctly."""
        self.seen.index_add_(0, y, torch.ones_like(y, dtype=torch.float32))
        self.correct.index_add_(0, y, (adversarial_logits.argmax(1) == y).float())
