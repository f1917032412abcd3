"""Everything a training needs to resume after a crash: one file, replaced whole each time."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from faal_core.classifier import Classifier
from faal_core.results.finetune_documents import EpochRow
from faal_core.training.averaging import WeightAverage
from faal_core.training.methods.method import Method
from faal_core.training.selection import Beginning
from faal_core.training.validation import HeldOutAccuracy


@dataclass(slots=True)
class Tally:
    """Sums over the steps of the epoch that runs: the loss of each image, and each class's weight where it had one."""

    loss: float
    images: int
    weight: Tensor
    batches: Tensor

    @classmethod
    def empty(cls, num_classes: int) -> "Tally":
        """No step yet."""
        return cls(0.0, 0, torch.zeros(num_classes), torch.zeros(num_classes))

    def add(self, loss: float, images: int, weight: Tensor) -> None:
        """One step: its mean loss, its images, and the weight of each class, 0 for one without an image."""
        self.loss, self.images = self.loss + loss * images, self.images + images
        self.weight += weight
        self.batches += weight > 0


@dataclass(slots=True)
class TrainingState:
    """What training has made so far, and how far it is.

    No state of a random generator is kept: each step seeds its own.

    Args:
        best: weights of the best epoch; before the first those that training begins with.
        offsets: of the classes; None where there are none.
        beginnings: what training could begin with, the given weights first; none where the spec sets no bounds.
        epochs, accuracies: rows of the finished epochs, and their accuracy where images are held out.
        step: how many steps of the epoch that runs are done.
    """

    classifier: Classifier
    optimizer: Optimizer
    method: Method
    average: WeightAverage | None
    best: dict[str, Tensor]
    tally: Tally
    offsets: Tensor | None = None
    beginnings: tuple[Beginning, ...] = ()
    epochs: list[EpochRow] = field(default_factory=list)
    accuracies: list[HeldOutAccuracy] = field(default_factory=list)
    step: int = 0

    @property
    def cut(self) -> bool:
        """Whether an epoch ended early because the time was over; then no other follows, in whatever time there is later."""
        return bool(self.epochs) and self.epochs[-1].share < 1

    @property
    def between_epochs(self) -> bool:
        """Whether an epoch has ended and no step of another was made."""
        return bool(self.epochs) and self.step == 0

    @property
    def given(self) -> HeldOutAccuracy | None:
        """The given weights' accuracy, which bounds refer to; None where there are none."""
        return self.beginnings[0].accuracy if self.beginnings else None

    @property
    def judged(self) -> Classifier:
        """The classifier whose weights are validated and kept: the average, where there is one."""
        return self.average.classifier if self.average else self.classifier

    def after_step(self, loss: float, images: int, weight: Tensor) -> None:
        """Counts a step that was made, and takes the weights it led to into the average."""
        self.tally.add(loss, images, weight)
        self.step += 1
        if self.average:
            self.average.after_step(self.classifier)

    def after_epoch(self, share: float, rate: float, accuracy: HeldOutAccuracy | None, seconds: float) -> EpochRow:
        """The row of the epoch that ends with this, that share of it; it is counted, and the next begins."""
        tally = self.tally
        row = EpochRow(
            epoch=len(self.epochs) + 1,
            share=share,
            learning_rate=rate,
            loss=tally.loss / tally.images,
            class_weights=tuple((tally.weight / tally.batches.clamp_min(1)).tolist()),
            held_out_clean=accuracy.clean_mean if accuracy else None,
            held_out_mean=accuracy.robust_mean if accuracy else None,
            held_out_worst=accuracy.robust_worst if accuracy else None,
            seconds=seconds,
        )
        self.epochs.append(row)
        if accuracy:
            self.accuracies.append(accuracy)
        self.step, self.tally = 0, Tally.empty(self.classifier.num_classes)
        return row

    def content(self) -> dict[str, Any]:
        """All of it, of types that `torch.load` takes from an untrusted file."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "best": self.best,
            "offsets": self.offsets,
            "beginnings": [(one.offsets, *one.accuracy) for one in self.beginnings],
            "tally": (self.tally.loss, self.tally.images, self.tally.weight, self.tally.batches),
            "epochs": [row.model_dump_json() for row in self.epochs],
            "accuracies": [tuple(one) for one in self.accuracies],
            "step": self.step,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Becomes the state that had this content."""
        epochs = [EpochRow.model_validate_json(row) for row in content["epochs"]]
        self.classifier.load_state_dict(content["classifier"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.method.load_state_dict(content["method"])
        if self.average:
            self.average.load_state_dict(content["average"])
        loss, images, weight, batches = content["tally"]
        self.best, self.tally = content["best"], Tally(loss, images, weight.cpu(), batches.cpu())
        self.epochs, self.step = epochs, content["step"]
        self.accuracies = [HeldOutAccuracy(*one) for one in content["accuracies"]]


def save(path: Path, state: TrainingState, identity: str) -> None:
    """Writes the state so that a crash leaves either the old file or the new one. Raises: OSError."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save({"identity": identity, **state.content()}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(f"{path} cannot be written; is the disk full?") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """The content saved under the same identity (spec, data and starting weights); None where there is none to be read."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        return content if content["identity"] == identity else None
    except Exception:  # noqa: BLE001 - a damaged file can raise anything, and training anew loses less than giving up
        return None
