"""A trial on a copy before the first audit, so that errors of the training appear in seconds, not after hours."""

import copy

import torch
from torch import Tensor

from faal_core.auditing.evaluator import Evaluator
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable
from faal_core.progress import NoProgress
from faal_core.specs import DecoSamMethod, FinetuneSpec, TrainingMethod, UniformMethod
from faal_core.training.beginning import require_head
from faal_core.training.cells import assign_cells
from faal_core.training.recipe import train
from faal_core.training.row_split import split_rows


class _OneStep(NoProgress):
    """Leaves no time, in which a training takes one step."""

    def time_left(self) -> float:
        """Return 0."""
        return 0.0


def rehearse(classifier: Classifier, data: LabelledImages, spec: FinetuneSpec, device: torch.device) -> None:
    """Train a copy of the classifier for one step on a batch of its training images, where the method trains.

    All classes weigh the same in it, since some methods must survey every image before they can weigh any class. DecoSAM needs
    no survey and trains other weights, so it makes its own step.

    Raises: InvalidSpec where too few images can validate; ClassifierUnsuitable where the network does not take the images,
        does not return one logit a class, or has no last layer that the method could change; TrainingDiverged, OutOfMemory.
    """
    training, method = spec.training, spec.method
    split_rows(data, training.validation_fraction, training.seed, assign_cells(data, spec.method))
    _require_logits(copy.deepcopy(classifier), data, device, trains=spec.epochs > 0)
    if not isinstance(method, TrainingMethod):
        require_head(classifier, data, spec)
        return
    if not isinstance(method, DecoSamMethod):
        method = UniformMethod(loss=method.loss, beta=method.beta)
    without_validation = {"validation_fraction": 0.0, "averaging": None}
    step = spec.model_copy(update={"method": method, "training": training.model_copy(update=without_validation)})
    train(classifier, data, step, device=device, progress=_OneStep())


@torch.no_grad()
def _require_logits(classifier: Classifier, data: LabelledImages, device: torch.device, *, trains: bool) -> None:
    """Check that the classifier returns one logit a class, in training mode too if it `trains`. Raises: ClassifierUnsuitable."""
    rows = torch.arange(min(4, len(data)))
    evaluator = Evaluator(classifier, data, device=device, batch_size=len(rows), seed=0)
    x = evaluator.pixels(rows)
    evaluator.predict(x, data.labels[rows].to(device))
    if not trains:
        return
    output = classifier.train()(x)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (len(x), classifier.num_classes):
        raise ClassifierUnsuitable(
            f"In training mode the network returns {shape} for {len(x)} images; it must return {classifier.num_classes} logits "
            "for each."
        )
