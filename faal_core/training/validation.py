"""How well a classifier does on held-out images, while it is trained."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable
from faal_core.evaluation import Evaluator, evaluate
from faal_core.progress import Part, Progress
from faal_core.specs import ApgdSpec, FinetuneSpec
from faal_core.training.ranks import Ranks
from faal_core.training.step import diverged


class HeldOutAccuracy(NamedTuple):
    """Clean and robust accuracy of each class on held-out images, in [0, 1], and how many images it has; `k` each."""

    clean: tuple[float, ...]
    robust: tuple[float, ...]
    images: tuple[int, ...]

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
        """Return by how much the mean clean accuracy falls below that of the given weights: the greater fall of both means."""
        return self._mean_drop(given.clean, self.clean)

    def robust_drop(self, given: "HeldOutAccuracy") -> float:
        """Return the same for the mean robust accuracy."""
        return self._mean_drop(given.robust, self.robust)

    def _mean_drop(self, before: tuple[float, ...], after: tuple[float, ...]) -> float:
        """Return the greater fall of two means: of the classes, and of all images, which differ where classes are uneven."""
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
    counts = torch.zeros(2, classifier.num_classes, device=device)
    correct = torch.from_numpy(np.stack([evaluation.correct, evaluation.robust])).to(counts)
    ranks.sum(counts.index_add_(1, images.labels.to(device), correct))
    clean, robust = counts.double().cpu().numpy() / images.counts
    return HeldOutAccuracy(tuple(clean.tolist()), tuple(robust.tolist()), tuple(images.counts.tolist()))
