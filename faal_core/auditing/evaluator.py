"""Turn images into outcomes: predict every image clean and after each attack.

Only this module predicts attacked images again; `results.image_outcomes.ImageOutcomes.add` records which attack broke an image.
`Evaluator` evaluates one batch and returns a `ComputedBatch`. `evaluation.evaluate` runs all batches of an audit.
"""

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faal_core.attacks import Attack
from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.losses import margin_loss, probability_margin_loss
from faal_core.attacks.randomness import ImageRandom, seed_from
from faal_core.auditing.mean_of_draws import show_other_draws
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_fit
from faal_core.devices import Pieces, full_float32
from faal_core.errors import ClassifierUnsuitable
from faal_core.errors.memory_exhaustion import is_out_of_memory
from faal_core.results.ledger import CLEAN, BatchResult
from faal_core.threat_model import ThreatModel

_NOT_FINITE = "The network returned NaN or infinite logits for an image with pixels in [0, 1]."


class ImageResult(NamedTuple):
    """Describes one image after one run of an attack, or clean; the fields are those of `BatchResult`."""

    predicted: int
    margin: float
    logit_margin: float
    distance: float
    sha256: str


@dataclass(frozen=True, slots=True)
class ComputedBatch:
    """The result of a batch.

    Args:
        adversarial: the images that broke images of the batch, `n c h w`, float32, in the order of the rows whose `sha256` is not
            empty; None where the evaluator does not keep them.
    """

    result: BatchResult
    adversarial: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Passes:
    """Counts the images passed through a network, and tells whether every output was finite.

    Args:
        zero: the sum of all outputs times 0, which is NaN once an output was NaN or infinite.
    """

    forward: int = 0
    backward: int = 0
    zero: Tensor | float = 0.0

    @property
    def finite(self) -> bool:
        """Return whether every output was finite. The host waits for a GPU."""
        return not math.isnan(self.zero)


@contextmanager
def record_passes(classifier: Classifier, sources: Collection[Classifier] = ()) -> Iterator[Passes]:
    """Count the images that pass through the classifier, and through the sources of attacks, within the context.

    A gradient with respect to the input of a forward pass counts as a backward pass.
    """
    passes = Passes()

    def count_backward(gradient: Tensor) -> None:
        passes.backward += len(gradient)

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        passes.forward += len(inputs[0])
        if inputs[0].requires_grad:
            inputs[0].register_hook(count_backward)

    def examine(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passes.zero = output.detach().mul(0).sum() + passes.zero

    hooks = [one.register_forward_hook(count) for one in {classifier, *sources}]
    hooks.append(classifier.register_forward_hook(examine))
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def freeze_weights(*classifiers: Classifier) -> Iterator[None]:
    """Compute no gradients of the weights within the context, which saves their memory and time."""
    trainable = [one for classifier in classifiers for one in classifier.parameters() if one.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


class Evaluator:
    """Evaluates one classifier in eval mode on one set of images, batch by batch.

    Args:
        classifier: moved to `device`, in the memory layout that is fastest for it.
        batch_size: most images per batch. Fewer pass at a time where the device lacks memory or a CPU is faster with fewer.
        seed: with an image's pixels and the numbers of attack and run, determines the random numbers used on the image.
        sources: networks whose gradients attacks may follow, by the digest of their weights, as `prepare_sources` returns them.

    Attributes:
        keeps_adversarial: whether results hold the images that broke others.
    """

    def __init__(
        self,
        classifier: Classifier,
        data: LabelledImages,
        *,
        device: torch.device,
        batch_size: int,
        seed: int,
        sources: Mapping[str, Classifier] | None = None,
    ) -> None:
        check_fit(classifier, data)
        self.classifier = classifier.place(device).eval()
        classifier.choose_layout(data.pixels(torch.arange(min(2, len(data))), device))
        self.data, self.device, self.batch_size, self.seed = data, device, batch_size, seed
        self.sources = sources or {}
        self.keeps_adversarial = False
        self._pieces = Pieces(min(batch_size, self.classifier.images_in_cache(data.images.shape[1:])))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` on the classifier's device and in its memory layout."""
        return self.classifier.lay_out(self.data.pixels(rows, self.device))

    def evaluate_clean(self, rows: Tensor) -> ComputedBatch:
        """Return the classifier's predictions for the images at `rows`, without an attack."""

        def predict_clean(part: Tensor) -> list[ImageResult]:
            x = self.pixels(part)
            predictions = self.predict(x, self.data.labels[part].to(self.device))
            return [ImageResult(*image, distance=0.0, sha256="") for image in zip(*predictions, strict=True)]

        return ComputedBatch(self._run_batch(CLEAN, 0, rows, predict_clean))

    def evaluate_attack(
        self, attack: Attack, number: int, run: int, rows: Tensor, threat: ThreatModel
    ) -> ComputedBatch:
        """Return the predictions for the images at `rows` after one run of attack `number`.

        The images that the attack returns are projected into the threat model and predicted again. No other output of the
        attack is used.
        """
        adversarial: list[NDArray[np.float32]] = []

        def try_to_break(part: Tensor) -> list[ImageResult]:
            x, y = self.pixels(part), self.data.labels[part].to(self.device)
            seeds = [seed_from(self.seed, number, run, self.data.digest(row)) for row in part.tolist()]
            with show_other_draws(self.classifier):
                x_adv = attack.run(run, self.classifier, x, y, threat, ImageRandom(seeds, self.device)).detach()
            x_adv = Ball(x, threat).project(x_adv.clone())  # a copy: the attack may have returned x itself
            predicted, margin, logit_margin = self.predict(x_adv, y)
            distance = norms(x_adv - x, threat.norm).tolist()
            broken = [answer != label for answer, label in zip(predicted, y.tolist(), strict=True)]
            if self.keeps_adversarial:
                adversarial.append(x_adv[broken].contiguous().cpu().numpy())
            images = zip(predicted, margin, logit_margin, distance, _digest_pixels(x_adv, broken), strict=True)
            return [ImageResult(*image) for image in images]

        result = self._run_batch(number, run, rows, try_to_break)
        return ComputedBatch(result, np.concatenate(adversarial) if self.keeps_adversarial else None)

    def _run_batch(
        self, attack: int, run: int, rows: Tensor, work: Callable[[Tensor], list[ImageResult]]
    ) -> BatchResult:
        """Process a batch in parts that fit into memory, and count its passes and its time."""
        start = time.monotonic()
        with record_passes(self.classifier, self.sources.values()) as passes, full_float32():
            images = self._pieces.map(work, rows)
        if not passes.finite:
            raise ClassifierUnsuitable(_NOT_FINITE)
        return BatchResult(
            attack=attack,
            run=run,
            rows=tuple(rows.tolist()),
            predicted=tuple(image.predicted for image in images),
            margin=tuple(image.margin for image in images),
            logit_margin=tuple(image.logit_margin for image in images),
            distance=tuple(image.distance for image in images),
            sha256=tuple(image.sha256 for image in images),
            forward=passes.forward,
            backward=passes.backward,
            seconds=time.monotonic() - start,
        )

    @torch.no_grad()
    def predict(self, x: Tensor, y: Tensor) -> tuple[list[int], list[float], list[float]]:
        """Return the predicted classes, the margins in probability, in [−1, 1], and the margins in logits.

        A margin is the label's value minus the largest other one, the negative of the margin loss.

        Raises: ClassifierUnsuitable where the network does not accept images of that size, or its logits have the wrong
            shape or are not finite.
        """
        try:
            logits = self.classifier(x)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            if isinstance(error, torch.AcceleratorError) or is_out_of_memory(error):
                raise
            size = " × ".join(map(str, x.shape[1:]))
            raise ClassifierUnsuitable(f"The network does not accept images of {size}: {str(error)[:200]}") from error
        if logits.ndim != 2 or logits.shape[1] != self.classifier.num_classes:
            raise ClassifierUnsuitable(
                f"The network returned outputs of shape {tuple(logits.shape)} for {len(x)} images. "
                f"It must return {self.classifier.num_classes} logits for each image."
            )
        if not bool(logits.isfinite().all()):
            raise ClassifierUnsuitable(_NOT_FINITE)
        margins = -probability_margin_loss(logits, y), -margin_loss(logits, y)
        return logits.argmax(1).tolist(), margins[0].tolist(), margins[1].tolist()


def _digest_pixels(x: Tensor, selected: list[bool]) -> list[str]:
    """Return the SHA-256 of each selected image's float32 pixels, channels first; an empty string for the others."""
    pixels = x.contiguous().cpu().numpy()
    return [hashlib.sha256(pixels[i].tobytes()).hexdigest() if is_used else "" for i, is_used in enumerate(selected)]
