"""FAAL: from the margins of an adversarial batch to one weight per class or cell, batch by batch."""

import numpy as np
import torch
from torch import Tensor

from faal_core.classifier import Labels, Logits, PerImage
from faal_core.dro import Vector, worst_case_weights
from faal_core.specs import FaalMethod
from faal_core.training.methods.method import ClassWeights, Method


@torch.no_grad()
def probability_margins(logits: Logits, y: Labels) -> PerImage:
    """Return the largest other class's probability minus that of the label, in [−1, 1]; positive where misclassified."""
    probabilities = logits.softmax(1)
    own = probabilities.gather(1, y.unsqueeze(1)).squeeze(1)
    return probabilities.scatter(1, y.unsqueeze(1), -1).amax(1) - own


def worst_case_class_weights(logits: Logits, y: Labels, method: FaalMethod) -> Tensor:
    """Return the weights of `worst_case_cell_weights` for the classes as cells."""
    return worst_case_cell_weights(probability_margins(logits.detach(), y), y, logits.shape[1], method)


def worst_case_cell_weights(margins: PerImage, cells: Tensor, num_cells: int, method: FaalMethod) -> Tensor:
    """Return k·p of the worst distribution p over cells for this batch: one weight a cell, 1 is neutral, on the margins' device.

    The risk of a cell is the mean margin of its images (`class-risk`), or their sum (`batch-count`). A cell without an
    image in the batch gets 0. Here k (C in the paper) counts the cells with images: the weights of a balanced batch average 1.

    Args:
        cells: cell of each image, in 0..num_cells-1.
    Source: Zhang et al., CVPR 2024, the intermediate maximisation; `batch-count` is what its published code computes.
    Differs: uniform is taken over the cells present; an absent cell attracts no weight. In the paper the cells are classes.
    """
    if method.dro_radius == 0:
        return torch.ones(num_cells, device=margins.device)
    numbers = cells.cpu()
    counts = torch.bincount(numbers, minlength=num_cells).numpy()
    risks = torch.zeros(num_cells, dtype=torch.float64).index_add_(0, numbers, margins.double().cpu()).numpy()
    present = counts > 0
    if method.objective == "class-risk":
        risks = risks / np.maximum(counts, 1)
    weights: Vector = present.sum() * worst_case_weights(risks, method.dro_radius, present, method.divergence)
    return torch.from_numpy(weights).to(margins.device, torch.float32)


class Faal(Method):
    """Fairness-Aware Adversarial Learning: the worst class distribution of each batch weighs the whole loss.

    Source: Zhang et al., CVPR 2024, algorithm 1.
    Differs: where the spec names a column of groups, the distribution is over class × group cells.
    """

    def __init__(self, spec: FaalMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._spec = spec

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return the worst-case weights of this batch, which weigh both terms."""
        return self.cell_weights(adversarial_logits, y, y)

    def cell_weights(self, adversarial_logits: Logits, y: Labels, cells: Tensor) -> ClassWeights:
        """Return the worst-case weights of the cells in this batch, which weigh both terms."""
        margins = probability_margins(adversarial_logits, y)
        weight = worst_case_cell_weights(margins, cells, self.num_classes, self._spec)
        return ClassWeights(weight, self.beta * weight)
