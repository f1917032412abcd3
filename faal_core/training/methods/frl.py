"""FRL: penalties that grow, epoch by epoch, for classes whose clean or boundary error exceeds the mean."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import FrlMethod
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.survey import TakeSurvey

_RADIUS_RANGE = (0.98, 3.0)  # of the remargined radii, in ε


class Frl(Method):
    """Fair Robust Learning.

    Source: Xu et al., ICML 2021, algorithm 1 (reweight, and remargin where `remargin_rate` is set), on the validation images.
    Differs: the penalties are computed before the first epoch too, since the given classifier is already trained.
    """

    clean_penalty: Tensor
    boundary_penalty: Tensor
    margin: Tensor

    def __init__(self, spec: FrlMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        for name in ("clean_penalty", "boundary_penalty", "margin"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))

    def begin_epoch(self, epoch: int, survey: TakeSurvey) -> None:
        """Raise each class's penalties by how far its errors exceed the mean plus the tolerance, or lower them."""
        measured, spec = survey("validation"), self._spec
        clean, boundary = 1 - measured.clean, measured.clean - measured.robust
        excess = [error - error.mean() - spec.tolerance for error in (clean, boundary)]
        self.clean_penalty = self._limit(self.clean_penalty + spec.clean_rate * excess[0])
        self.boundary_penalty = self._limit(self.boundary_penalty + spec.boundary_rate * excess[1])
        self.margin = self.margin + spec.remargin_rate * excess[1]

    def _limit(self, penalty: Tensor) -> Tensor:
        """Clamp penalties at 0, and scale them down where their sum exceeds its limit."""
        penalty = penalty.clamp_min(0)
        return penalty * (self._spec.most / penalty.sum().clamp_min(self._spec.most))

    @property
    def relative_radius(self) -> Tensor:
        """Return e^(2 · margin), within bounds, in ε, `k`; 1 where nothing is remargined."""
        return (2 * self.margin).exp().clamp(*_RADIUS_RANGE).float() if self._spec.remargin_rate else self.neutral

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return weights that make each term a weighted mean over the batch."""
        clean, boundary = (
            (1 / self.num_classes + penalty - penalty.mean()).float()
            for penalty in (self.clean_penalty, self.boundary_penalty)
        )
        return ClassWeights(clean / clean[y].mean(), self.beta * boundary / boundary[y].mean())
