"""Turn images into outcomes: predict every image clean and after each attack.

Only this module predicts attacked images again; `results.image_outcomes.ImageOutcomes.add` records which attack broke an image.
`Evaluator` evaluates one batch and returns a `BatchResult`. `evaluate` runs all batches of an audit, stores them in the
ledger and adds them up in `results.image_outcomes`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faal_core import attacks
from faal_core.attacks import Attack
from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.losses import margin_loss, probability_margin_loss
from faal_core.attacks.randomness import ImageRandom, seed_from
from faal_core.auditing.adversarial import AdversarialImages
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_fit
from faal_core.devices import Pieces
from faal_core.errors import ClassifierUnsuitable, InvalidSpec
from faal_core.errors.memory_exhaustion import is_out_of_memory
from faal_core.progress import Progress
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import Evaluation, ImageOutcomes
from faal_core.results.ledger import CLEAN, BatchResult, Ledger
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel

_NOT_FINITE = "The network returned NaN or infinite logits for an image with pixels in [0, 1]."


class ImageResult(NamedTuple):
    """Describes one image after one run of an attack, or clean; the fields are those of `BatchResult`."""

    predicted: int
    margin: float
    logit_margin: float
    distance: float
    sha256: str


@dataclass(slots=True)
class Passes:
    """Counts the images passed through a network, and tells whether every output was finite."""

    forward: int = 0
    backward: int = 0
    finite: Tensor | bool = True


@contextmanager
def record_passes(classifier: Classifier) -> Iterator[Passes]:
    """Count the images that pass through the classifier within the context.

    A forward pass whose input needs a gradient also counts as a backward pass.
    """
    passes = Passes()

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passes.forward += len(inputs[0])
        passes.backward += len(inputs[0]) if inputs[0].requires_grad else 0
        passes.finite = output.isfinite().all() & passes.finite

    hook = classifier.register_forward_hook(count)
    try:
        yield passes
    finally:
        hook.remove()


@contextmanager
def freeze_weights(classifier: Classifier) -> Iterator[None]:
    """Compute no gradients of the weights within the context, which saves their memory and time."""
    trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
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
        batch_size: images per batch. Fewer pass at a time where the device lacks memory or a CPU is faster with fewer.
            The images that survive a run are gathered into full batches.
        seed: with an image's pixels and the numbers of attack and run, determines the random numbers used on the image.

    Attributes:
        adversarial_images: takes the image that breaks each image, where it is set.
    """

    def __init__(
        self, classifier: Classifier, data: LabelledImages, *, device: torch.device, batch_size: int, seed: int
    ) -> None:
        check_fit(classifier, data)
        self.classifier = classifier.place(device).eval()
        classifier.choose_layout(data.pixels(torch.arange(min(2, len(data))), device))
        self.data, self.device, self.batch_size, self.seed = data, device, batch_size, seed
        self.adversarial_images: AdversarialImages | None = None
        self._pieces = Pieces(min(batch_size, self.classifier.images_in_cache(data.images.shape[1:])))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` on the classifier's device and in its memory layout."""
        return self.classifier.lay_out(self.data.pixels(rows, self.device))

    def evaluate_clean(self, rows: Tensor) -> BatchResult:
        """Return the classifier's predictions for the images at `rows`, without an attack."""

        def predict_clean(part: Tensor) -> list[ImageResult]:
            x = self.pixels(part)
            predictions = self.predict(x, self.data.labels[part].to(self.device))
            return [ImageResult(*image, distance=0.0, sha256="") for image in zip(*predictions, strict=True)]

        return self._run_batch(CLEAN, 0, rows, predict_clean)

    def evaluate_attack(self, attack: Attack, number: int, run: int, rows: Tensor, threat: ThreatModel) -> BatchResult:
        """Return the predictions for the images at `rows` after one run of attack `number`.

        The images that the attack returns are projected into the threat model and predicted again. No other output of the
        attack is used.
        """

        def try_to_break(part: Tensor) -> list[ImageResult]:
            x, y = self.pixels(part), self.data.labels[part].to(self.device)
            seeds = [seed_from(self.seed, number, run, self.data.digest(row)) for row in part.tolist()]
            x_adv = attack.run(run, self.classifier, x, y, threat, ImageRandom(seeds, self.device)).detach()
            x_adv = Ball(x, threat).project(x_adv.clone())  # a copy: the attack may have returned x itself
            predicted, margin, logit_margin = self.predict(x_adv, y)
            distance = norms(x_adv - x, threat.norm).tolist()
            broken = [answer != label for answer, label in zip(predicted, y.tolist(), strict=True)]
            if self.adversarial_images is not None:
                self.adversarial_images.store(part[broken], x_adv[broken])
            images = zip(predicted, margin, logit_margin, distance, _digest_pixels(x_adv, broken), strict=True)
            return [ImageResult(*image) for image in images]

        return self._run_batch(number, run, rows, try_to_break)

    def _run_batch(
        self, attack: int, run: int, rows: Tensor, work: Callable[[Tensor], list[ImageResult]]
    ) -> BatchResult:
        """Process a batch in parts that fit into memory, and count its passes and its time."""
        start = time.monotonic()
        with record_passes(self.classifier) as passes:
            images = self._pieces.map(work, rows)
        if not bool(passes.finite):
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


class _EvaluationRun:
    """Runs one evaluation: computes the batches that its ledger lacks, adds up outcomes, and reports progress."""

    def __init__(self, evaluator: Evaluator, specs: tuple[AttackSpec, ...], ledger: Ledger, progress: Progress) -> None:
        self.outcomes = ImageOutcomes(evaluator.data.labels.numpy())
        self._evaluator, self._ledger, self._progress = evaluator, ledger, progress
        classes = evaluator.classifier.num_classes
        self._attacks = [attacks.build(spec, classes) for spec in specs]
        self._max_passes = [spec.passes(classes) for spec in specs]  # per image, in all runs
        self._passes, self._seconds = 0, 0.0

    def evaluate_clean(self, rows: Tensor, *, compute: bool) -> None:
        """Predict the images at `rows` without an attack.

        Raises: InvalidSpec where the ledger lacks a batch and `compute` is false.
        """
        self._progress.stage("clean", len(rows))
        for batch in rows.split(self._evaluator.batch_size) if len(rows) else ():
            result = self._ledger.find(CLEAN, 0, batch.tolist())
            if result is None and not compute:
                raise InvalidSpec(
                    "The audit was stopped before every image had a clean prediction, so there is no report yet. Resume it."
                )
            self._add(result or self._ledger.add(self._evaluator.evaluate_clean(batch)), CLEAN, 0)

    def run_attack(self, number: int, spec: AttackSpec, threat: ThreatModel, *, compute: bool) -> AttackRow:
        """Run one attack, run by run, each on the images that are still undecided."""
        attack, tried = self._attacks[number], torch.from_numpy(self.outcomes.find_undecided(spec.margin_left))
        waiting, untried = tried, torch.zeros(len(self._evaluator.data), dtype=torch.bool)
        results: list[BatchResult] = []
        self._progress.stage(str(spec), len(tried) * attack.runs)
        for run in range(attack.runs):
            for batch in waiting.split(self._evaluator.batch_size) if len(waiting) else ():
                result = self._ledger.find(number, run, batch.tolist())
                if result is None and not (compute and self._progress.time_left() > 0):
                    untried[batch] = True
                    continue
                result = result or self._ledger.add(self._evaluator.evaluate_attack(attack, number, run, batch, threat))
                results.append(result)
                self._add(result, number, int((waiting > batch[-1]).sum()))
            waiting = waiting[torch.isin(waiting, torch.from_numpy(self.outcomes.find_undecided()))]
        return AttackRow(
            name=str(spec),
            tried=len(tried),
            untried=int(untried.sum()),
            broken=len(tried) - len(waiting),
            forward=sum(result.forward for result in results),
            backward=sum(result.backward for result in results),
            seconds=sum(result.seconds for result in results),
        )

    def _add(self, result: BatchResult, number: int, waiting: int) -> None:
        """Add a batch to the outcomes, and report progress and the remaining time."""
        broken = self.outcomes.add(result)
        self._passes += result.forward + result.backward
        self._seconds += result.seconds
        runs_after = self._attacks[number].runs - result.run - 1 if number != CLEAN else 0
        self._progress.set_eta(self._estimate_rest(number, result, waiting))
        self._progress.advance(len(result.rows) + broken * runs_after)

    def _estimate_rest(self, number: int, result: BatchResult, waiting: int) -> float:
        """Estimate the largest remaining time in seconds: the passes if no more images break, at the mean time per pass."""
        undecided = len(self.outcomes.find_undecided())
        passes = sum(self._max_passes[number + 1 :]) * undecided
        if number != CLEAN:
            runs = self._attacks[number].runs
            passes += self._max_passes[number] // runs * (waiting + undecided * (runs - result.run - 1))
        return passes * self._seconds / max(self._passes, 1)


def evaluate(
    evaluator: Evaluator,
    threat: ThreatModel,
    specs: tuple[AttackSpec, ...],
    progress: Progress,
    ledger: Ledger | None = None,
    *,
    rows: Tensor | None = None,
    compute: bool = True,
) -> tuple[Evaluation, tuple[AttackRow, ...]]:
    """Return one row per image, and what each attack tried, broke and cost.

    Attacks run in order, run by run. Images that are misclassified clean are never attacked, and a run sees only the
    images that no earlier run broke. An image is robust when it is classified correctly clean and after every run (the
    pointwise worst case).

    Args:
        ledger: holds results of an earlier run, which are not computed again; stores every new batch.
        rows: row numbers of the images to evaluate; all when absent. The other images count as misclassified.
        compute: whether to compute what the ledger lacks. Otherwise these batches stay untried, so the true robust
            accuracy may be lower still. The same holds for batches left when `progress` has no time left, except clean
            predictions.
    Raises: InvalidSpec, ClassifierUnsuitable, OutOfMemory; Cancelled through `progress`; OSError of the ledger.
    """
    evaluation = _EvaluationRun(evaluator, specs, ledger or Ledger(None, ""), progress)
    table = []
    with freeze_weights(evaluator.classifier):
        evaluation.evaluate_clean(torch.arange(len(evaluator.data)) if rows is None else rows, compute=compute)
        for number, spec in enumerate(specs):
            row = evaluation.run_attack(number, spec, threat, compute=compute)
            progress.record(row)
            table.append(row)
    return evaluation.outcomes.to_evaluation(), tuple(table)
