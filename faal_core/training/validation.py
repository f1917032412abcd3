"""How accurate a classifier is on the validation images while it is trained."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.processes import Executors
from faal_core.classifier import Classifier
from faal_core.errors import ClassifierUnsuitable
from faal_core.progress import ProgressPart
from faal_core.specs import ApgdSpec
from faal_core.training.divergence import divergence_error
from faal_core.training.run import TrainingRun

_STANDARD_ERRORS = 0.5  # that are added to a drop; docs/decisions/0018 weighs 0, 1 and 2


@dataclass(frozen=True, slots=True)
class ValidationAccuracy:
    """Clean and robust accuracy of each cell on the validation images, in [0, 1], and its number of images.

    The cells are the classes, unless the spec names a column of groups.

    Args:
        clean_correct, robust_correct: which images are correct, `n`, bool, on the CPU; where they are None, drops are exact.
    """

    clean: tuple[float, ...]
    robust: tuple[float, ...]
    images: tuple[int, ...]
    clean_correct: Tensor | None = None
    robust_correct: Tensor | None = None

    @property
    def clean_mean(self) -> float:
        """Return the mean of the cells' clean accuracies."""
        return sum(self.clean) / len(self.clean)

    @property
    def robust_mean(self) -> float:
        """Return the mean of the cells' robust accuracies."""
        return sum(self.robust) / len(self.robust)

    @property
    def robust_worst(self) -> float:
        """Return the robust accuracy of the least robust cell."""
        return min(self.robust)

    @property
    def worst_standard_error(self) -> float:
        """Return the standard error of `robust_worst`, with one success and one failure added (Agresti and Coull 1998)."""
        rate, images = min(zip(self.robust, self.images, strict=True))
        rate = (rate * images + 1) / (images + 2)
        return float((rate * (1 - rate) / images) ** 0.5)

    def clean_drop(self, original: "ValidationAccuracy") -> float:
        """Return the fall of the mean clean accuracy below that of the original weights, plus its uncertainty.

        It is the greater drop of two means: over the cells, and over all images, which differ where cells are uneven.
        """
        return self._mean_drop(original.clean, self.clean) + _uncertainty(original.clean_correct, self.clean_correct)

    def robust_drop(self, original: "ValidationAccuracy") -> float:
        """Return the fall of the mean robust accuracy, computed as `clean_drop` computes its own."""
        return self._mean_drop(original.robust, self.robust) + _uncertainty(
            original.robust_correct, self.robust_correct
        )

    def _mean_drop(self, before: tuple[float, ...], after: tuple[float, ...]) -> float:
        drops = [was - became for was, became in zip(before, after, strict=True)]
        weighted = sum(drop * count for drop, count in zip(drops, self.images, strict=True))
        return max(sum(drops) / len(drops), weighted / sum(self.images))

    def class_drop(self, original: "ValidationAccuracy") -> float:
        """Return the largest fall of a single cell's clean or robust accuracy below that of the original weights."""
        pairs = zip((*original.clean, *original.robust), (*self.clean, *self.robust), strict=True)
        return max(before - after for before, after in pairs)


def _uncertainty(before: Tensor | None, after: Tensor | None) -> float:
    """Return half the standard error of the paired difference of two means over images; 0 where they are unknown."""
    if before is None or after is None:
        return 0.0
    differences = before.double() - after.double()
    return _STANDARD_ERRORS * float(differences.std(correction=0)) / len(differences) ** 0.5


def validate(classifier: Classifier, run: TrainingRun) -> ValidationAccuracy:
    """Return the accuracy under APGD with the margin loss and twice the steps of the training's attack.

    The training's own attack misses images that a network with class weights gets right by a small margin: the mean would
    seem to hold, and fall under a stronger attack (benchmarks/notes/fairness.md has the figures). Each rank validates its
    shard; a single rank has processes compute.

    Raises: TrainingDiverged where logits are not finite; Cancelled through the run's progress.
    """
    images, training = run.data.take(run.rows.validation), run.training
    attack = ApgdSpec(loss="margin", iterations=2 * training.attack.steps)
    evaluator = Evaluator(
        classifier, images, device=classifier.device, batch_size=training.batch_size, seed=training.seed
    )
    own_rows = torch.arange(len(images))[run.ranks.shard(len(images))]
    progress = ProgressPart(run.progress, "validation", rows=False)
    with run.ranks.fail_together():
        try:
            evaluation, _ = evaluate(
                evaluator,
                run.spec.threat,
                (attack,),
                progress,
                rows=own_rows,
                open_executor=run.executors if run.ranks.count == 1 else Executors(1),
            )
        except ClassifierUnsuitable as error:
            raise divergence_error("network's logits") from error
    correct = torch.from_numpy(np.stack([evaluation.correct, evaluation.robust])).to(run.device).float()
    correct = run.ranks.sum(correct).cpu()
    cells = run.cells.take(run.rows.validation)
    sizes = torch.bincount(cells.numbers, minlength=cells.count)
    counts = torch.zeros(2, cells.count, dtype=torch.float64)
    clean, robust = (counts.index_add_(1, cells.numbers, correct.double()) / sizes).tolist()
    clean_correct, robust_correct = correct > 0
    return ValidationAccuracy(tuple(clean), tuple(robust), tuple(sizes.tolist()), clean_correct, robust_correct)
