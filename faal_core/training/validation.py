"""How well a classifier does on held-out images, while it is trained."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class HeldOutAccuracy:
    """Rates on held-out images: clean and robust mean of the classes, and the least robust class's."""

    clean: float
    mean: float
    worst: float


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
    clean, robust = counts.cpu().numpy() / images.counts
    return HeldOutAccuracy(float(clean.mean()), float(robust.mean()), float(robust.min()))
