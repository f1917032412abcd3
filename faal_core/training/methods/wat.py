"""WAT: Hedge between the classes' losses and their mean, epoch by epoch."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import WatMethod
from faal_core.training.methods.method import Emphasis, Method
from faal_core.training.survey import Surveyed


class Wat(Method):
    """Worst-class adversarial training: k + 1 experts, one a class and one for the mean of all.

    Source: Li and Liu, AAAI 2023, algorithm 1, on held-out images.
    Differs: the costs are known before the first epoch too, since what is trained here is a trained classifier.
    """

    cost: Tensor

    def __init__(self, spec: WatMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._rate = spec.rate
        self.register_buffer("cost", torch.zeros(num_classes + 1, dtype=torch.float64))

    def begin_epoch(self, epoch: int, surveyed: Surveyed) -> None:
        """Adds each expert's loss to what it has lost so far."""
        seen = surveyed("held out")
        loss = seen.classification + self.beta * seen.divergence
        self.cost = self.cost + torch.cat([loss, loss.mean().unsqueeze(0)])

    def emphasis(self, adversarial_logits: Logits, y: Labels) -> Emphasis:
        """K times an expert's share: a class's own, and on all classes that of the mean."""
        shares = (self._rate * self.cost).softmax(0).float() * self.num_classes
        weight = shares[:-1] + shares[-1]
        return Emphasis(weight, self.beta * weight)
