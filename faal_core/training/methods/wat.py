"""WAT: Hedge between the classes' losses and their mean, epoch by epoch."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import WatMethod
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.survey import TakeSurvey


class Wat(Method):
    """Worst-class adversarial training: k + 1 experts (k is C in the papers), one a class and one for the mean of all.

    Source: Li and Liu, AAAI 2023, algorithm 1, on the validation images.
    Differs: the costs are computed before the first epoch too, since the given classifier is already trained.
    """

    cost: Tensor

    def __init__(self, spec: WatMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._rate = spec.rate
        self.register_buffer("cost", torch.zeros(num_classes + 1, dtype=torch.float64))

    def begin_epoch(self, epoch: int, survey: TakeSurvey) -> None:
        """Add each expert's loss to its cost."""
        measured = survey("validation")
        loss = measured.classification + self.beta * measured.divergence
        self.cost = self.cost + torch.cat([loss, loss.mean().unsqueeze(0)])

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return k times the experts' probabilities: each class's own plus that of the mean."""
        probabilities = (self._rate * self.cost).softmax(0).float() * self.num_classes
        weight = probabilities[:-1] + probabilities[-1]
        return ClassWeights(weight, self.beta * weight)
