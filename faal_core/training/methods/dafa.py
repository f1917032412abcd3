"""DAFA: weight and radius move from easier classes to harder ones, the more the two are confused."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import DafaMethod
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.survey import TakeSurvey


def distance_aware_weights(confusion: Tensor, strength: float) -> Tensor:
    """Return one weight a class, of mean 1.

    Of two classes the harder takes weight from the easier: the probability that its images are taken for the easier class,
    times the probability that the easier's images are recognised.

    Args:
        confusion: row i has the mean adversarial probabilities of the images of class i, `k k`.
        strength: λ, a factor of the weight that moves.
    Source: Lee et al., ICLR 2024, eq. 5.
    """
    own = confusion.diagonal()
    transfer = strength * confusion * own  # [i, j]: from j to i, where i is the harder
    is_harder = own.unsqueeze(1) < own
    transfer = transfer * is_harder
    return 1 + transfer.sum(1) - transfer.sum(0)


class Dafa(Method):
    """Distance-aware fair adversarial training: uniform until the warm-up ends, when the weights are computed once.

    Source: Lee et al., ICLR 2024, algorithm 1.
    Differs: similarities are measured on the training images in a pass of their own; a weight that a strength over 1 would make
    negative is 0.
    """

    weight: Tensor

    def __init__(self, spec: DafaMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        self.register_buffer("weight", torch.ones(num_classes))

    def begin_epoch(self, epoch: int, survey: TakeSurvey) -> None:
        """Compute the weights, where the warm-up has just ended."""
        if epoch == self._spec.warmup_epochs:
            weights = distance_aware_weights(survey("training").confusion, self._spec.strength)
            self.weight = weights.clamp_min(0).float()

    @property
    def relative_radius(self) -> Tensor:
        """Return the class weights, in ε, `k`."""
        return self.weight

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return the weights for the classification, and β for the divergence."""
        return ClassWeights(self.weight, self.beta * self.neutral)
