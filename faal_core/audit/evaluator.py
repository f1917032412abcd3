"""Clean and attacked predictions of every image: the only judge of attacks."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faal_core import attacks
from faal_core.attacks import Attack
from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.losses import margin, probability_margin
from faal_core.attacks.randomness import ImageRandom, seed_from
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_fit
from faal_core.device_memory import Pieces
from faal_core.errors import ClassifierUnsuitable, InvalidSpec
from faal_core.errors.memory_exhaustion import is_out_of_memory
from faal_core.progress import Progress
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import Evaluation, Verdicts
from faal_core.results.ledger import CLEAN, Ledger, Unit
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel

_NOT_FINITE = "The network answers NaN or infinity to an image with pixels in [0, 1]."
Seen = tuple[int, float, float, float, str]  # of one image: predicted, margin, lead, distance, sha256, as in `Unit`


@dataclass(slots=True)
class Passes:
    """Images passed through a network, and whether every answer was finite."""

    forward: int = 0
    backward: int = 0
    finite: Tensor | bool = True


@contextmanager
def counted(classifier: Classifier) -> Iterator[Passes]:
    """Counts the images that pass; a forward whose input asks for a gradient counts as one backward too."""
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
def frozen(classifier: Classifier) -> Iterator[None]:
    """Within, no gradient of the weights is computed, and nothing is kept for one."""
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class Evaluator:
    """One classifier on one set of images, in eval mode, batch by batch.

    Args:
        classifier: is moved to `device` and laid out as is fastest for it.
        batch_size: images at a time, fewer where the device has no room or a CPU is faster; survivors of a run are gathered
            from everywhere into full batches.
        seed: fixes, with an image's pixels and the numbers of attack and run, the random numbers that are used on it.
    """

    def __init__(
        self, classifier: Classifier, data: LabelledImages, *, device: torch.device, batch_size: int, seed: int
    ) -> None:
        check_fit(classifier, data)
        self.classifier = classifier.place(device).eval()
        self.data, self.device, self.batch_size, self.seed = data, device, batch_size, seed
        self._pieces = Pieces(min(batch_size, self.classifier.images_in_cache(data.images.shape[1:])))

    def pixels(self, rows: Tensor) -> Tensor:
        """Those images, where and how the classifier wants them."""
        return self.classifier.lay_out(self.data.pixels(rows, self.device))

    def clean(self, rows: Tensor) -> Unit:
        """What the classifier makes of those images."""

        def look(part: Tensor) -> list[Seen]:
            x = self.pixels(part)
            seen = self.predict(x, self.data.labels[part].to(self.device))
            return [(*image, 0.0, "") for image in zip(*seen, strict=True)]

        return self._unit(CLEAN, 0, rows, look)

    def attacked(self, attack: Attack, number: int, run: int, rows: Tensor, threat: ThreatModel) -> Unit:
        """What it makes of them after one run of attack `number`.

        What the attack returns is projected into the threat model and predicted again: its own word counts for nothing.
        """

        def try_to_break(part: Tensor) -> list[Seen]:
            x, y = self.pixels(part), self.data.labels[part].to(self.device)
            seeds = [seed_from(self.seed, number, run, self.data.digest(row)) for row in part.tolist()]
            x_adv = attack.run(run, self.classifier, x, y, threat, ImageRandom(seeds, self.device)).detach()
            x_adv = Ball(x, threat).project(x_adv.clone())  # it may be x itself
            predicted, margin, lead = self.predict(x_adv, y)
            distance = norms(x_adv - x, threat.norm).tolist()
            broken = [p != label for p, label in zip(predicted, y.tolist(), strict=True)]
            return list(zip(predicted, margin, lead, distance, _digests(x_adv, broken), strict=True))

        return self._unit(number, run, rows, try_to_break)

    def _unit(self, attack: int, run: int, rows: Tensor, work: Callable[[Tensor], list[Seen]]) -> Unit:
        begun = time.monotonic()
        with counted(self.classifier) as passes:
            images = self._pieces.each(work, rows)
        if not bool(passes.finite):
            raise ClassifierUnsuitable(_NOT_FINITE)
        predicted, margin, lead, distance, sha256 = zip(*images, strict=True)
        return Unit(
            attack=attack,
            run=run,
            rows=tuple(rows.tolist()),
            predicted=predicted,
            margin=margin,
            lead=lead,
            distance=distance,
            sha256=sha256,
            forward=passes.forward,
            backward=passes.backward,
            seconds=time.monotonic() - begun,
        )

    @torch.no_grad()
    def predict(self, x: Tensor, y: Tensor) -> tuple[list[int], list[float], list[float]]:
        """The predicted classes, and by how much the label leads the likeliest other class: its probability, its logit.

        Raises: ClassifierUnsuitable where the network does not take images of that size, and for logits of the wrong width
            or not finite.
        """
        try:
            logits = self.classifier(x)
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, torch.AcceleratorError) or is_out_of_memory(error):
                raise
            size = " × ".join(map(str, x.shape[1:]))
            raise ClassifierUnsuitable(f"The network does not take images of {size}: {str(error)[:200]}") from error
        if logits.ndim != 2 or logits.shape[1] != self.classifier.num_classes:
            raise ClassifierUnsuitable(
                f"The network answers {tuple(logits.shape)} to {len(x)} images; "
                f"{self.classifier.num_classes} logits each are due."
            )
        if not bool(logits.isfinite().all()):
            raise ClassifierUnsuitable(_NOT_FINITE)
        return logits.argmax(1).tolist(), (-probability_margin(logits, y)).tolist(), (-margin(logits, y)).tolist()


def _digests(x: Tensor, wanted: list[bool]) -> list[str]:
    """SHA-256 of each wanted image's float32 pixels, channels first; empty for the others."""
    pixels = x.contiguous().cpu().numpy()
    return [hashlib.sha256(pixels[i].tobytes()).hexdigest() if want else "" for i, want in enumerate(wanted)]


class _Work:
    """Does the units of one evaluation that its ledger does not know, and tells its progress."""

    def __init__(self, evaluator: Evaluator, specs: tuple[AttackSpec, ...], ledger: Ledger, progress: Progress) -> None:
        self.verdicts = Verdicts(evaluator.data.labels.numpy())
        self._evaluator, self._ledger, self._progress = evaluator, ledger, progress
        classes = evaluator.classifier.num_classes
        self._attacks = [attacks.build(spec, classes) for spec in specs]
        self._most = [spec.passes(classes) for spec in specs]  # of an image, in all runs
        self._passes, self._seconds = 0, 0.0

    def look(self, looked_at: Tensor, *, compute: bool) -> None:
        """Those images as they are. Raises: InvalidSpec where that was not done and is not to be done now."""
        self._progress.stage("clean", len(looked_at))
        for rows in looked_at.split(self._evaluator.batch_size) if len(looked_at) else ():
            unit = self._ledger.find(CLEAN, 0, rows.tolist())
            if unit is None and not compute:
                raise InvalidSpec(
                    "The audit was stopped before all images were looked at: there is nothing to report yet."
                )
            self._take_in(unit or self._ledger.add(self._evaluator.clean(rows)), CLEAN, 0)

    def attack(self, number: int, spec: AttackSpec, threat: ThreatModel, *, compute: bool) -> AttackRow:
        """One attack, run by run, each on what is undecided then."""
        attack, tried = self._attacks[number], torch.from_numpy(self.verdicts.undecided(spec.margin_left))
        waiting, untried = tried, torch.zeros(len(self._evaluator.data), dtype=torch.bool)
        units: list[Unit] = []
        self._progress.stage(str(spec), len(tried) * attack.runs)
        for run in range(attack.runs):
            for rows in waiting.split(self._evaluator.batch_size) if len(waiting) else ():
                unit = self._ledger.find(number, run, rows.tolist())
                if unit is None and not (compute and self._progress.time_left() > 0):
                    untried[rows] = True
                    continue
                unit = unit or self._ledger.add(self._evaluator.attacked(attack, number, run, rows, threat))
                units.append(unit)
                self._take_in(unit, number, int((waiting > rows[-1]).sum()))
            waiting = waiting[torch.isin(waiting, torch.from_numpy(self.verdicts.undecided()))]
        return AttackRow(
            name=str(spec),
            tried=len(tried),
            untried=int(untried.sum()),
            broken=len(tried) - len(waiting),
            forward=sum(unit.forward for unit in units),
            backward=sum(unit.backward for unit in units),
            seconds=sum(unit.seconds for unit in units),
        )

    def _take_in(self, unit: Unit, number: int, waiting: int) -> None:
        broken = self.verdicts.take_in(unit)
        self._passes += unit.forward + unit.backward
        self._seconds += unit.seconds
        runs_after = self._attacks[number].runs - unit.run - 1 if number != CLEAN else 0
        self._progress.expect(self._rest(number, unit, waiting))
        self._progress.advance(len(unit.rows) + broken * runs_after)

    def _rest(self, number: int, unit: Unit, waiting: int) -> float:
        """Seconds that the rest takes at most: its passes if no more images fall, at the time a pass took so far."""
        undecided = len(self.verdicts.undecided())
        passes = sum(self._most[number + 1 :]) * undecided
        if number != CLEAN:
            runs = self._attacks[number].runs
            passes += self._most[number] // runs * (waiting + undecided * (runs - unit.run - 1))
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
    """One row an image, and what each attack did and cost.

    Attacks run in order, run by run. Images that are wrong when clean are never attacked, and a run sees only what all
    before it left unbroken; an image is robust when it is right clean and after every run (the pointwise worst case).

    Args:
        ledger: what it knows is not computed again, and every new verdict goes into it.
        rows: numbers of the images that are looked at; all when absent. The others count as wrong.
        compute: otherwise what the ledger does not know stays untried, and robustness is an upper bound the more; likewise
            what is not done when `progress` has no time left, clean predictions apart.
    Raises: InvalidSpec, ClassifierUnsuitable, OutOfMemory; Cancelled through `progress`; OSError of the ledger.
    """
    work = _Work(evaluator, specs, ledger or Ledger(None, ""), progress)
    table = []
    with frozen(evaluator.classifier):
        work.look(torch.arange(len(evaluator.data)) if rows is None else rows, compute=compute)
        for number, spec in enumerate(specs):
            row = work.attack(number, spec, threat, compute=compute)
            progress.record(row)
            table.append(row)
    return work.verdicts.evaluation(), tuple(table)
