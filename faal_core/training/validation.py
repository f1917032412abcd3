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
from faal_core.specs import FinetuneSpec, PgdSpec
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
    """Accuracy under PGD with as many steps as in training, first with the cross-entropy, then with the margin.

    Class weights teach a network to be right about an image by a hair's breadth, which the cross-entropy alone overlooks. Each
    process looks at its share.

    Raises: TrainingDiverged where its logits are not finite; Cancelled through `progress`.
    """
    images, training = data.take(held_out), spec.training
    strength = training.attack.model_dump(include={"steps", "relative_step"})
    attacks = (PgdSpec(**strength), PgdSpec(**strength, loss="margin"))
    device = classifier.device
    evaluator = Evaluator(classifier, images, device=device, batch_size=training.batch_size, seed=training.seed)
    rows = torch.arange(len(images))[ranks.share(len(images))]
    told = Part(progress, "held out", rows=False)
    with ranks.agreed():
        try:
            evaluation, _ = evaluate(evaluator, spec.threat, attacks, told, rows=rows)
        except ClassifierUnsuitable as error:
            raise diverged("network's logits became NaN or infinite") from error
    counts = torch.zeros(2, classifier.num_classes, device=device)
    correct = torch.from_numpy(np.stack([evaluation.correct, evaluation.robust])).to(counts)
    ranks.sum(counts.index_add_(1, images.labels.to(device), correct))
    clean, robust = counts.cpu().numpy() / images.counts
    return HeldOutAccuracy(float(clean.mean()), float(robust.mean()), float(robust.min()))
