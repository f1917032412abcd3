"""CFOL: a bandit draws the classes to train on, more often those whose images fail."""

import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits
from faal_core.specs import CfolMethod
from faal_core.training.methods.method import Method


class Cfol(Method):
    """Class-focused online learning: EXP3 over classes, each drawn image chosen uniformly within its class.

    Source: Pethick et al., TMLR 2023, algorithm 1.
    Differs: the gain of a batch is added after its step, with the shares it was drawn by.
    """

    gain: Tensor

    def __init__(self, spec: CfolMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec
        self.register_buffer("gain", torch.zeros(num_classes, dtype=torch.float64))

    @property
    def shares(self) -> Tensor:
        """Of each class among the images that are drawn, `k`."""
        uniform = 1 / self.num_classes
        return self._spec.exploration * uniform + (1 - self._spec.exploration) * self.gain.softmax(0)

    def choose(self, step: int, order: Tensor, labels: Labels, steps: int, generator: torch.Generator) -> Tensor:
        """As many rows as a plain batch has, drawn with replacement."""
        count = len(super().choose(step, order, labels, steps, generator))
        weight_of_row = (self.shares / torch.bincount(labels[order], minlength=self.num_classes).to(self.gain))[
            labels[order].to(self.gain.device)
        ]
        return order[torch.multinomial(weight_of_row, count, replacement=True, generator=generator).to(order.device)]

    def note(self, adversarial_logits: Logits, y: Labels) -> None:
        """Raises what each failed image's class is worth, by the rate over the class's share."""
        wrong = (adversarial_logits.argmax(1) != y).double()
        self.gain = self.gain + self._spec.rate * torch.zeros_like(self.gain).index_add_(0, y, wrong) / self.shares
