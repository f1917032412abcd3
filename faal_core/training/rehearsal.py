"""One step on a copy before the first audit: what would stop the training stops it in seconds, not after hours."""

import copy

import torch
from torch import Tensor

from faal_core.audit.evaluator import Evaluator
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable
from faal_core.progress import NoProgress
from faal_core.specs import FinetuneSpec, UniformMethod
from faal_core.training.recipe import train
from faal_core.training.selection import hold_out


class _OneStep(NoProgress):
    """Leaves no time, in which a training makes one step."""

    def time_left(self) -> float:
        """None."""
        return 0.0


def rehearse(classifier: Classifier, data: LabelledImages, spec: FinetuneSpec, device: torch.device) -> None:
    """Nothing: a copy of the classifier takes one step on a batch of the images that it would be trained on.

    All classes count alike in it, since some methods have to look at every image before they can weigh any.

    Raises: InvalidSpec where too few images can be held out; ClassifierUnsuitable where the network does not take them, or
        does not answer with a logit a class; TrainingDiverged, OutOfMemory.
    """
    training = spec.training
    hold_out(data, training.held_out_share, training.seed)
    _require_logits(copy.deepcopy(classifier), data, device)
    alike = UniformMethod(loss=spec.method.loss, beta=spec.method.beta)
    once = {"held_out_share": 0.0, "averaging": None}
    step = spec.model_copy(update={"method": alike, "training": training.model_copy(update=once)})
    train(classifier, data, step, device=device, progress=_OneStep())


@torch.no_grad()
def _require_logits(classifier: Classifier, data: LabelledImages, device: torch.device) -> None:
    """Raises: ClassifierUnsuitable where the classifier does not answer with one logit a class, in training too."""
    rows = torch.arange(min(4, len(data)))
    evaluator = Evaluator(classifier, data, device=device, batch_size=len(rows), seed=0)
    x = evaluator.pixels(rows)
    evaluator.predict(x, data.labels[rows].to(device))
    answer = classifier.train()(x)
    shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if shape != (len(x), classifier.num_classes):
        raise ClassifierUnsuitable(
            f"In training mode the network answers {shape} to {len(x)} images; {classifier.num_classes} logits each are due."
        )
