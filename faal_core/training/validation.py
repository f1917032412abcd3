"""How well a classifier does on held-out images, while it is trained."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from faal_core.audit.evaluator import Evaluator, evaluate
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable
from faal_core.progress import Part, Progress
from faal_core.specs import ApgdSpec, FinetuneSpec
from faal_core.training.ranks import Ranks
from faal_core.training.step import diverged

_STANDARD_ERRORS = 0.5  # a fall counts with that many; docs/decisions/0018 weighs none, one and two


class HeldOutAccuracy(NamedTuple):
    """Clean and robust accuracy of each class on held-out images, in [0, 1], and how many images it has; `k` each.

    `right` says which images are right, clean in the first row and robust in the second, `2 n`, bool, on the CPU; where it is
    None, falls are taken for exact.
    """

    clean: tuple[float, ...]
    robust: tuple[float, ...]
    images: tuple[int, ...]
    right: Tensor | None = None

    @property
    def clean_mean(self) -> float:
        """Clean accuracy, mean of the classes."""
        return sum(self.clean) / len(self.clean)

    @property
    def robust_mean(self) -> float:
        """Robust accuracy, mean of the classes."""
        return sum(self.robust) / len(self.robust)

    @property
    def robust_worst(self) -> float:
        """Robust accuracy of the least robust class."""
        return min(self.robust)

    def clean_drop(self, given: "HeldOutAccuracy") -> float:
        """Return by how much the mean clean accuracy falls below that of the given weights, plus its uncertainty.

        It is the greater fall of two means: of the classes, and of all images, which differ where classes are uneven.
        """
        return self._mean_drop(given.clean, self.clean) + self._uncertainty(given, 0)

    def robust_drop(self, given: "HeldOutAccuracy") -> float:
        """Return the same for the mean robust accuracy."""
        return self._mean_drop(given.robust, self.robust) + self._uncertainty(given, 1)

    def _uncertainty(self, given: "HeldOutAccuracy", row: int) -> float:
        """Return half the standard error of the paired difference of the means over images."""
        if self.right is None or given.right is None:
            return 0.0
        differences = given.right[row].double() - self.right[row].double()
        return _STANDARD_ERRORS * float(differences.std(correction=0)) / len(differences) ** 0.5

    def _mean_drop(self, before: tuple[float, ...], after: tuple[float, ...]) -> float:
        drops = [was - became for was, became in zip(before, after, strict=True)]
        weighted = sum(drop * count for drop, count in zip(drops, self.images, strict=True))
        return max(sum(drops) / len(drops), weighted / sum(self.images))

    def class_drop(self, given: "HeldOutAccuracy") -> float:
        """Return the largest fall of a single class's clean or robust accuracy below that of the given weights."""
        pairs = zip((*given.clean, *given.robust), (*self.clean, *self.robust), strict=True)
        return max(before - after for before, after in pairs)


def require_finite(classifier: Classifier) -> None:
    """Raises: TrainingDiverged where a step has spoilt the weights."""
    if not all(bool(value.isfinite().all()) for value in classifier.state_dict().values()):
        raise diverged("weights became NaN or infinite")


def validate(
    classifier: Classifier,
    data: LabelledImages,
    held_out: Tensor,
    spec: FinetuneSpec,
    progress: Progress,
    ranks: Ranks,
) -> HeldOutAccuracy:
    """Accuracy under APGD with the margin and twice the steps of the training. Each process looks at its share.

    The attack of the training itself overlooks images that a network with class weights gets right by a hair's breadth: the
    mean seems to hold and falls under a stronger one (docs/benchmarks.md has the figures).

    Raises: TrainingDiverged where its logits are not finite; Cancelled through `progress`.
    """
    images, training = data.take(held_out), spec.training
    attack = ApgdSpec(loss="margin", iterations=2 * training.attack.steps)
    device = classifier.device
    evaluator = Evaluator(classifier, images, device=device, batch_size=training.batch_size, seed=training.seed)
    rows = torch.arange(len(images))[ranks.share(len(images))]
    told = Part(progress, "held out", rows=False)
    with ranks.agreed():
        try:
            evaluation, _ = evaluate(evaluator, spec.threat, (attack,), told, rows=rows)
        except ClassifierUnsuitable as error:
            raise diverged("network's logits became NaN or infinite") from error
    right = torch.from_numpy(np.stack([evaluation.correct, evaluation.robust])).to(device).float()
    ranks.sum(right)
    counts = torch.zeros(2, classifier.num_classes, dtype=torch.float64).index_add_(
        1, images.labels, right.cpu().double()
    )
    clean, robust = counts.numpy() / images.counts
    sizes = tuple(images.counts.tolist())
    return HeldOutAccuracy(tuple(clean.tolist()), tuple(robust.tolist()), sizes, right.cpu() > 0)
