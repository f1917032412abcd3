"""CFOL: a bandit draws the classes to train on, those whose images fail more often."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import CfolMethod
from faal_core.training.methods.method import Method


class Cfol(Method):
    """Class-focused online learning: EXP3 over classes, each drawn image chosen uniformly within its class.

    Source: Pethick et al., TMLR 2023, algorithm 1.
    Differs: the gain of a batch is added after its step, with the probabilities that it was drawn by.
    """

    gain: Tensor

    def __init__(self, spec: CfolMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        self.register_buffer("gain", torch.zeros(num_classes, dtype=torch.float64))

    @property
    def probabilities(self) -> Tensor:
        """Return the probability that an image of each class is drawn, `k`."""
        uniform = 1 / self.num_classes
        return self._spec.exploration * uniform + (1 - self._spec.exploration) * self.gain.softmax(0)

    def choose_rows(self, step: int, order: Tensor, labels: Labels, steps: int, generator: torch.Generator) -> Tensor:
        """Draw as many rows as a plain batch has, with replacement."""
        count = len(super().choose_rows(step, order, labels, steps, generator))
        weight_of_row = (self.probabilities / torch.bincount(labels[order], minlength=self.num_classes).to(self.gain))[
            labels[order].to(self.gain.device)
        ]
        return order[torch.multinomial(weight_of_row, count, replacement=True, generator=generator).to(order.device)]

    def observe(self, adversarial_logits: Logits, y: Labels) -> None:
        """Raise the gain of each misclassified image's class by the rate over the class's probability."""
        wrong = (adversarial_logits.argmax(1) != y).double()
        self.gain = (
            self.gain + self._spec.rate * torch.zeros_like(self.gain).index_add_(0, y, wrong) / self.probabilities
        )
