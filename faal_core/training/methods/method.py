"""What a method of class-wise training may decide, and what it decides unless it says otherwise: all classes alike."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faal_core.classifier import Labels, Logits, PerImage
from faal_core.training.losses import Terms
from faal_core.training.survey import Surveyed


@dataclass(frozen=True, slots=True)
class Emphasis:
    """How much each class counts in a step: a factor of each term of the loss, `k`; 1 is neutral (β for the divergence)."""

    classification: Tensor
    divergence: Tensor

    def weigh(self, terms: Terms, y: Labels) -> PerImage:
        """One value an image: its terms, each times the factor of its class."""
        return self.classification[y] * terms.classification + self.divergence[y] * terms.divergence


class Method(nn.Module):
    """A method between two steps. What it has learnt lies in buffers, so that a checkpoint holds it.

    Args:
        num_classes: k.
        beta: share of the divergence.
    """

    def __init__(self, num_classes: int, beta: float) -> None:
        super().__init__()
        self.num_classes, self.beta = num_classes, beta
        self.register_buffer("neutral", torch.ones(num_classes), persistent=False)

    neutral: Tensor

    def begin_epoch(self, epoch: int, surveyed: Surveyed) -> None:
        """Called before each epoch, counted from 0. `surveyed` looks at the classifier as it is, when asked."""

    def choose(self, step: int, order: Tensor, labels: Labels, steps: int, generator: torch.Generator) -> Tensor:
        """Return the row numbers of the batch of that step, counted from 0, of `steps` an epoch.

        Batches of an epoch are as large as one another, to one image: a small last one would leave its own statistics in
        batch-norm's running ones, by which the epoch's weights are judged.

        Args:
            order: all rows that may be used, shuffled; each once an epoch unless the method draws otherwise.
            labels: of the whole data, by row number.
        Differs: the published codes end an epoch with what is left over.
        """
        return order[step * len(order) // steps : (step + 1) * len(order) // steps]

    @property
    def reach(self) -> Tensor:
        """Radius of the attack on each class, in ε, `k`."""
        return self.neutral

    @property
    def alike(self) -> Emphasis:
        """Every class counts as every other."""
        return Emphasis(self.neutral, self.beta * self.neutral)

    def emphasis(self, adversarial_logits: Logits, y: Labels) -> Emphasis:
        """What counts in a step on that batch; no gradient flows through it."""
        return self.alike

    def note(self, adversarial_logits: Logits, y: Labels) -> None:
        """Called after each step with what the batch was answered."""
