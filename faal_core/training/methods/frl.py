"""FRL: penalties that grow, epoch by epoch, for classes whose clean or boundary error exceeds the mean."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import FrlMethod
from faal_core.training.methods.method import Emphasis, Method
from faal_core.training.survey import Surveyed

_REACH = (0.98, 3.0)  # between which the remargined radii stay, in ε


class Frl(Method):
    """Fair Robust Learning.

    Source: Xu et al., ICML 2021, algorithm 1 (reweight, and remargin where `remargin_rate` is set), on held-out images.
    Differs: the penalties are known before the first epoch too, since what is trained here is a trained classifier.
    """

    clean_penalty: Tensor
    boundary_penalty: Tensor
    margin: Tensor

    def __init__(self, spec: FrlMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        for name in ("clean_penalty", "boundary_penalty", "margin"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))

    def begin_epoch(self, epoch: int, surveyed: Surveyed) -> None:
        """The penalties rise or fall by how far each class's errors exceed the mean by more than the tolerance."""
        seen, spec = surveyed("held out"), self._spec
        clean, boundary = 1 - seen.clean, seen.clean - seen.robust
        excess = [error - error.mean() - spec.tolerance for error in (clean, boundary)]
        self.clean_penalty = self._limited(self.clean_penalty + spec.clean_rate * excess[0])
        self.boundary_penalty = self._limited(self.boundary_penalty + spec.boundary_rate * excess[1])
        self.margin = self.margin + spec.remargin_rate * excess[1]

    def _limited(self, penalty: Tensor) -> Tensor:
        """Not negative, and scaled back where they sum to more than they may."""
        penalty = penalty.clamp_min(0)
        return penalty * (self._spec.most / penalty.sum().clamp_min(self._spec.most))

    @property
    def reach(self) -> Tensor:
        """e^(2 · margin), within bounds; 1 where nothing is remargined."""
        return (2 * self.margin).exp().clamp(*_REACH).float() if self._spec.remargin_rate else self.neutral

    def emphasis(self, adversarial_logits: Logits, y: Labels) -> Emphasis:
        """Each term a weighted mean over the batch."""
        clean, boundary = (
            (1 / self.num_classes + penalty - penalty.mean()).float()
            for penalty in (self.clean_penalty, self.boundary_penalty)
        )
        return Emphasis(clean / clean[y].mean(), self.beta * boundary / boundary[y].mean())
