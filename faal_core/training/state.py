"""The state of a training: its weights and results so far, and its progress."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from faal_core.classifier import Classifier
from faal_core.results.finetune_documents import EpochRow
from faal_core.training.averaging import WeightAverage
from faal_core.training.head import HeadChange
from faal_core.training.methods.method import Method
from faal_core.training.selection import Starts, Weights
from faal_core.training.validation import ValidationAccuracy


@dataclass(slots=True)
class Tally:
    """Sums over the steps of the current epoch: of the images' losses, and of each cell's weight where it had one."""

    loss: float
    images: int
    weight: Tensor
    batches: Tensor

    @classmethod
    def empty(cls, num_cells: int) -> "Tally":
        """Return the tally before the first step."""
        return cls(0.0, 0, torch.zeros(num_cells), torch.zeros(num_cells))

    def add(self, loss: float, images: int, weight: Tensor) -> None:
        """Add a step: its mean loss, its number of images, and the weight of each cell, 0 for one without an image."""
        self.loss, self.images = self.loss + loss * images, self.images + images
        self.weight += weight
        self.batches += weight > 0


@dataclass(slots=True)
class TrainingState:
    """The parts of a training that change. It has no state of a random generator: each step seeds its own.

    Args:
        start: weights that training started with.
        best: weights of the best epoch so far; before the first epoch those of the start.
        head: the change of the last layer, without a scale; it may be empty.
        starts: None where the spec sets no bounds.
        epochs, accuracies: rows of the finished epochs, and their accuracies where images validate.
        step: number of finished steps of the current epoch.
    """

    classifier: Classifier
    optimizer: Optimizer
    method: Method
    average: WeightAverage | None
    start: Weights
    best: Weights
    tally: Tally
    head: HeadChange
    starts: Starts | None
    epochs: list[EpochRow] = field(default_factory=list)
    accuracies: list[ValidationAccuracy] = field(default_factory=list)
    step: int = 0

    @property
    def ended_early(self) -> bool:
        """Return whether an epoch ended early because the time was over; then no other epoch follows, even in a later run."""
        return bool(self.epochs) and self.epochs[-1].fraction < 1

    @property
    def is_between_epochs(self) -> bool:
        """Return whether an epoch has ended and the next has no step yet."""
        return bool(self.epochs) and self.step == 0

    @property
    def validated_classifier(self) -> Classifier:
        """Return the classifier that is validated and selected: the average, where there is one."""
        return self.average.classifier if self.average else self.classifier

    def after_step(self, loss: float, images: int, weight: Tensor) -> None:
        """Count a step, and add its weights to the average."""
        self.tally.add(loss, images, weight)
        self.step += 1
        if self.average:
            self.average.after_step(self.classifier)

    def after_epoch(
        self, fraction: float, learning_rate: float, accuracy: ValidationAccuracy | None, seconds: float
    ) -> EpochRow:
        """Count the epoch, of which `fraction` was trained; return its row."""
        tally = self.tally
        row = EpochRow(
            epoch=len(self.epochs) + 1,
            fraction=fraction,
            learning_rate=learning_rate,
            loss=tally.loss / tally.images,
            class_weights=tuple((tally.weight / tally.batches.clamp_min(1)).tolist()),
            validation_clean=accuracy.clean_mean if accuracy else None,
            validation_robust=accuracy.robust_mean if accuracy else None,
            validation_robust_worst=accuracy.robust_worst if accuracy else None,
            seconds=seconds,
        )
        self.epochs.append(row)
        if accuracy:
            self.accuracies.append(accuracy)
        self.step, self.tally = 0, Tally.empty(len(tally.weight))
        return row


def snapshot(classifier: Classifier) -> dict[str, Tensor]:
    """Return a copy of the classifier's weights and statistics."""
    return {name: value.detach().clone() for name, value in classifier.state_dict().items()}
