"""Clean and attacked predictions of every image: the only judge of attacks."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faal_core import attacks
from faal_core.attacks.projections import norms, project
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, OutOfMemory
from faal_core.per_class import UNBROKEN, Evaluation
from faal_core.progress import Progress
from faal_core.reports.documents import AttackRow
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel


@dataclass(slots=True)
class Passes:
    """Images passed through a network."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(classifier: Classifier) -> Iterator[Passes]:
    """Counts the images that pass; a forward whose input asks for a gradient counts as one backward too."""
    passes = Passes()

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        passes.forward += len(inputs[0])
        passes.backward += len(inputs[0]) if inputs[0].requires_grad else 0

    hook = classifier.register_forward_hook(count)
    try:
        yield passes
    finally:
        hook.remove()


def seeded(device: torch.device, *parts: int | str) -> torch.Generator:
    """A generator for that purpose alone: its numbers depend on `parts` and on nothing that ran before."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def room_for(batch_size: int) -> Iterator[None]:
    """Raises: OutOfMemory where the device has no room for a batch."""
    try:
        yield
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device has no room for {batch_size} images at a time; ask for a smaller batch."
        ) from error


def _out_of_memory(error: Exception) -> bool:
    """Whether that is what torch says of a GPU's memory, or of the machine's."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def check_fit(classifier: Classifier, data: LabelledImages) -> None:
    """Raises: InvalidSpec when the data's channels or classes (number; order, where both name them) are not the classifier's."""
    if classifier.num_classes != len(data.class_names):
        raise InvalidSpec(
            f"The classifier has {classifier.num_classes} classes and {data.name} has {len(data.class_names)}."
        )
    if classifier.spec.channels != data.images.shape[1]:
        raise InvalidSpec(
            f"The classifier takes {classifier.spec.channels} channels (one mean each) and {data.name} has "
            f"{data.images.shape[1]}."
        )
    named = classifier.spec.class_names
    if named is not None and named != data.class_names and set(named) == set(data.class_names):
        raise InvalidSpec(
            f"The classifier and {data.name} have the same classes in another order: labels would be mixed up."
        )


class Evaluator:
    """One classifier on one set of images, in eval mode, batch by batch.

    Args:
        classifier: is moved to `device` and laid out as is fastest for it.
        batch_size: images at a time; survivors of an attack are gathered from everywhere into full batches.
        seed: with it, an attack's random numbers are fixed by its place in the list and the images it is given.
    """

    def __init__(
        self, classifier: Classifier, data: LabelledImages, *, device: torch.device, batch_size: int, seed: int
    ) -> None:
        check_fit(classifier, data)
        self.classifier = classifier.place(device).eval()
        self.data, self.device, self.batch_size, self.seed = data, device, batch_size, seed

    def batches(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Row numbers, images and labels, in order."""
        for chosen in rows.split(self.batch_size):
            x = self.classifier.lay_out(self.data.pixels(chosen, self.device))
            yield chosen, x, self.data.labels[chosen].to(self.device)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """The predicted classes.

        Raises: ClassifierUnsuitable where the network does not take images of that size, and for logits of the wrong width
            or not finite.
        """
        try:
            logits = self.classifier(x)
        except (RuntimeError, AssertionError) as error:
            if isinstance(error, torch.AcceleratorError) or _out_of_memory(error):
                raise
            size = " × ".join(map(str, x.shape[1:]))
            raise ClassifierUnsuitable(f"The network does not take images of {size}: {str(error)[:200]}") from error
        if logits.ndim != 2 or logits.shape[1] != self.classifier.num_classes:
            raise ClassifierUnsuitable(
                f"The network answers {tuple(logits.shape)} to {len(x)} images; "
                f"{self.classifier.num_classes} logits each are due."
            )
        if not bool(logits.isfinite().all()):
            raise ClassifierUnsuitable("The network answers NaN or infinity to an image with pixels in [0, 1].")
        return logits.argmax(1)

    def clean(self, progress: Progress) -> Tensor:
        """The predicted class of every image."""
        rows = torch.arange(len(self.data))
        progress.stage("clean", len(rows))
        predicted = torch.empty_like(rows)
        for chosen, x, _ in self.batches(rows):
            predicted[chosen] = self.predict(x).cpu()
            progress.advance(len(chosen))
        return predicted

    def attack(
        self, number: int, spec: AttackSpec, threat: ThreatModel, rows: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Predicted class and perturbation norm of each of `rows` after attack `number`.

        What the attack returns is projected into the threat model and predicted again: its own word counts for nothing.
        """
        run = attacks.build(spec)
        progress.stage(str(spec), len(rows))
        predicted, distance = [], []
        for chosen, x, y in self.batches(rows):
            generator = seeded(self.device, self.seed, number, int(chosen[0]))
            x_adv = project(run(self.classifier, x, y, threat, generator).detach(), x, threat)
            predicted.append(self.predict(x_adv).cpu())
            distance.append(norms(x_adv - x, threat.norm).double().cpu())
            progress.advance(len(chosen))
        return torch.cat(predicted), torch.cat(distance)


def evaluate(
    evaluator: Evaluator, threat: ThreatModel, specs: tuple[AttackSpec, ...], progress: Progress
) -> tuple[Evaluation, tuple[AttackRow, ...]]:
    """One row an image, and what each attack did and cost.

    Attacks run in order. Images that are wrong when clean are never attacked, and an attack sees only what the ones before
    it left unbroken; an image is robust when it is right clean and after every attack (the pointwise worst case).

    Raises: InvalidSpec, ClassifierUnsuitable, OutOfMemory; Cancelled through `progress`.
    """
    labels = evaluator.data.labels
    clean = evaluator.clean(progress)
    attacked, broken_by = clean.clone(), torch.full_like(clean, UNBROKEN)
    distance = torch.zeros(len(clean), dtype=torch.float64)
    rows_of_attacks = []
    for number, spec in enumerate(specs):
        rows = ((clean == labels) & (broken_by == UNBROKEN)).nonzero().squeeze(1)
        begun = time.monotonic()
        broken = 0
        with counted(evaluator.classifier) as passes:
            if len(rows):
                predicted, norm = evaluator.attack(number, spec, threat, rows, progress)
                hit = predicted != labels[rows]
                broken = int(hit.sum())
                attacked[rows[hit]], broken_by[rows[hit]], distance[rows[hit]] = predicted[hit], number, norm[hit]
        row = AttackRow(
            name=str(spec),
            tried=len(rows),
            broken=broken,
            forward=passes.forward,
            backward=passes.backward,
            seconds=time.monotonic() - begun,
        )
        progress.record(row)
        rows_of_attacks.append(row)
    evaluation = Evaluation(labels.numpy(), clean.numpy(), attacked.numpy(), broken_by.numpy(), distance.numpy())
    return evaluation, tuple(rows_of_attacks)
