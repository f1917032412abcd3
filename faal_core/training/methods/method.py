"""The base of all methods: what a method may decide, by default the same for every class."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from faal_core.classifier import Labels, Logits, PerImage
from faal_core.specs import WeightPerturbation
from faal_core.training.losses import Terms
from faal_core.training.survey import TakeSurvey
from faal_core.training.weight_perturbation import PerturbWeight, perturb_layer


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """The weight of each class in a step: a factor of each term of the loss, `k`; neutral are 1 and, for the divergence, β.

    Where the spec names a column of groups, class × group cells take the place of classes.

    Args:
        prediction: row y has the factors of the adversarial probabilities of an image of class y, `k k`; None adds no
            probabilities to the loss.
    """

    classification: Tensor
    divergence: Tensor
    prediction: Tensor | None = None

    def weigh(self, terms: Terms, y: Labels) -> PerImage:
        """Return the weighted loss of each image: its terms by the weights of its class or cell `y`, and its probabilities."""
        loss = self.classification[y] * terms.classification + self.divergence[y] * terms.divergence
        if self.prediction is None:
            return loss
        return loss + (self.prediction[y] * terms.adversarial_logits.softmax(1)).sum(1)


class Method(nn.Module):
    """A method of class-wise training. It keeps its state in buffers, which checkpoints save.

    Args:
        num_classes: k; for a method with groups, the number of cells, which is at least the number of classes.
        beta: weight of the divergence.
    """

    trains_features = True
    """Whether all parameters are trained, in train mode; otherwise the weights of the last linear layer alone, in eval mode."""

    def __init__(self, num_classes: int, beta: float) -> None:
        super().__init__()
        self.num_classes, self.beta = num_classes, beta
        self.register_buffer("neutral", torch.ones(num_classes), persistent=False)

    neutral: Tensor

    def begin_epoch(self, epoch: int, survey: TakeSurvey) -> None:
        """Prepare the method for an epoch, counted from 0.

        Args:
            survey: measures the classifier as it is, when it is called.
        """

    def choose_rows(self, step: int, order: Tensor, labels: Labels, steps: int, generator: torch.Generator) -> Tensor:
        """Return the row numbers of the batch of that step, counted from 0, of `steps` an epoch.

        Sizes of batches differ by at most one image. A small last batch would bias batch-norm's running statistics, with which
        the epoch's weights are validated.

        Args:
            order: all rows that may be used, shuffled; each occurs once an epoch unless the method draws otherwise.
            labels: of the whole data, by row number.
        Differs: the published codes end an epoch with a batch of the remaining images.
        """
        return order[step * len(order) // steps : (step + 1) * len(order) // steps]

    @property
    def relative_radius(self) -> Tensor:
        """Return the radius of the attack on each class, in ε, `k`."""
        return self.neutral

    @property
    def equal_weights(self) -> ClassWeights:
        """Return weights that are the same for every class."""
        return ClassWeights(self.neutral, self.beta * self.neutral)

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return the weights of the classes in the step on this batch; no gradient flows through them."""
        return self.equal_weights

    def cell_weights(self, adversarial_logits: Logits, y: Labels, cells: Tensor) -> ClassWeights:
        """Return the weights of the cells in the step on this batch: those of the classes, unless the method has groups.

        Args:
            cells: cell of each image; its class for a method without groups.
        """
        return self.class_weights(adversarial_logits, y)

    def choose_perturbation(self, spec: WeightPerturbation | None) -> PerturbWeight | None:
        """Return the perturbation of the weights at which a step computes its gradient; None where there is none."""
        return partial(perturb_layer, spec.gamma) if spec else None

    def proxy_loss(self, terms: Terms, y: Labels, class_weights: ClassWeights) -> PerImage:
        """Return the loss of each image whose gradient perturbs the weights; `y` has classes or cells, as in `ClassWeights`."""
        return class_weights.weigh(terms, y)

    def observe(self, adversarial_logits: Logits, y: Labels) -> None:
        """Update the method's state after a step, from the adversarial logits of its batch."""
