"""CFA: radius and regularisation of each class follow its robust accuracy in the epoch before."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import CfaMethod
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.survey import TakeSurvey

_BASE_RADIUS = {"at": 0.5, "trades": 0.3}


class Cfa(Method):
    """Class-wise calibrated fair adversarial training.

    Source: Wei et al., CVPR 2023, eq. 6 and 8; its fairness-aware averaging is `training.averaging` with `min_robust_worst`.
    Differs: the first epoch uses the validation images, since no epoch is before it; steps scale with the radii.
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

    def begin_epoch(self, epoch: int, survey: TakeSurvey) -> None:
        """Set each class's robust accuracy: of the last epoch's training images, at first of the validation images."""
        if epoch == 0:
            self.accuracy = survey("validation").robust.float()
        else:
            self.accuracy = torch.where(self.seen > 0, self.correct / self.seen.clamp_min(1), self.accuracy)
        self.correct.zero_()
        self.seen.zero_()

    @property
    def relative_radius(self) -> Tensor:
        """Return λ1 plus the class's robust accuracy, in ε, `k`."""
        return self._base_radius + self.accuracy

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return the weights of (classification + β_y · divergence) / (1 + β_y) for trades, neutral ones for at."""
        if self._spec.loss == "at":
            return ClassWeights(self.neutral, self.neutral)
        beta = (self._spec.base_beta + self.accuracy) * self.beta
        return ClassWeights(1 / (1 + beta), beta / (1 + beta))

    def observe(self, adversarial_logits: Logits, y: Labels) -> None:
        """Count the adversarial images of each class that are classified correctly."""
        self.seen.index_add_(0, y, torch.ones_like(y, dtype=torch.float32))
        self.correct.index_add_(0, y, (adversarial_logits.argmax(1) == y).float())
