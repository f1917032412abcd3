"""DAFA: weight and radius move from easier classes to harder ones, the more the two are confused."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import DafaMethod
from faal_core.training.methods.method import Emphasis, Method
from faal_core.training.survey import Surveyed


def distance_aware_weights(confusion: Tensor, strength: float) -> Tensor:
    """One weight a class, of mean 1; `confusion` `k k` has the mean adversarial probabilities of each class in its row.

    Of two classes the harder takes from the easier: the probability with which its images are taken for the easier class,
    times that with which the easier's are recognised. Source: Lee et al., ICLR 2024, eq. 5.
    """
    own = confusion.diagonal()
    taken = strength * confusion * own  # [i, j]: what i takes from j, where i is the harder
    harder = own.unsqueeze(1) < own
    taken = taken * harder
    return 1 + taken.sum(1) - taken.sum(0)


class Dafa(Method):
    """Distance-aware fair adversarial training: uniform up to the warm-up's end, when the weights are found once.

    Source: Lee et al., ICLR 2024, algorithm 1.
    Differs: similarities are measured on the training images in a pass of their own; a weight that a strength over 1 would make
    negative is 0.
    """

    weight: Tensor

    def __init__(self, spec: DafaMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        self.register_buffer("weight", torch.ones(num_classes))

    def begin_epoch(self, epoch: int, surveyed: Surveyed) -> None:
        """Finds the weights after the warm-up."""
        if epoch == self._spec.warmup_epochs:
            weights = distance_aware_weights(surveyed("fitted").confusion, self._spec.strength)
            self.weight = weights.clamp_min(0).float()

    @property
    def reach(self) -> Tensor:
        """The weights again."""
        return self.weight

    def emphasis(self, adversarial_logits: Logits, y: Labels) -> Emphasis:
        """The weights on the classification alone."""
        return Emphasis(self.weight, self.beta * self.neutral)
