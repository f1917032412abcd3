"""The training loop, top to bottom: attack the batch, weigh its classes, step; then validate, keep, save."""

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from faal_core import weights
from faal_core.attacks.randomness import seed_from
from faal_core.classifier import Classifier, Images, Labels
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.device_memory import room_for
from faal_core.errors import ClassifierUnsuitable, TrainingDiverged
from faal_core.evaluation import Evaluator, check_fit, evaluate
from faal_core.per_class import ClassTable
from faal_core.progress import NoProgress, Part, Progress
from faal_core.reports.documents import EpochRow
from faal_core.specs import FinetuneSpec, PgdSpec, TrainingSpec
from faal_core.training import checkpointing, losses, methods
from faal_core.training.augmentation import crop_and_flip
from faal_core.training.averaging import WeightAverage
from faal_core.training.checkpointing import Tally, TrainingState
from faal_core.training.inner_maximum import worst_images
from faal_core.training.methods.method import Method
from faal_core.training.selection import best_epoch, hold_out
from faal_core.training.survey import Survey, Surveyed, survey
from faal_core.training.weight_perturbation import perturbed_weights


@dataclass(frozen=True, slots=True)
class Trained:
    """The chosen epoch's classifier and the way there."""

    classifier: Classifier
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    held_out_images: int


def train(
    classifier: Classifier,
    data: LabelledImages,
    spec: FinetuneSpec,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    checkpoint_steps: int = 100,
    progress: Progress | None = None,
) -> Trained:
    """A trained copy of `classifier`, which itself stays as it was.

    With `checkpoint`, a file that is replaced every `checkpoint_steps` steps and after every epoch, a run that was killed goes on
    from there, and on a CPU with the same number of threads ends with the same weights as an undisturbed one, bit for bit.

    Raises: TrainingDiverged, InvalidSpec, OutOfMemory; Cancelled through `progress`.
    Source: Zhang et al., CVPR 2024 (FAAL); every other method names its own in `faal_core.training.methods`.
    Differs: the epoch is chosen on images held out from the training data (docs/method.md lists the rest).
    """
    check_fit(classifier, data)
    progress = progress or NoProgress()
    identity = _identity(classifier, data, spec)
    training = spec.training
    fitted, held_out = hold_out(data, training.held_out_share, training.seed)
    steps = len(fitted) // training.batch_size + (len(fitted) % training.batch_size > 1)  # batch-norm needs two images
    state = _beginning(copy.deepcopy(classifier).place(device), spec)
    saved = checkpointing.read(checkpoint, identity, device) if checkpoint else None
    if saved:
        state.restore(saved)

    while len(state.epochs) < training.epochs:
        epoch, begun = len(state.epochs), time.monotonic()
        progress.stage(f"epoch {epoch + 1} of {training.epochs}", len(fitted))
        order = fitted[
            torch.randperm(len(fitted), generator=_generator(torch.device("cpu"), training.seed, "epoch", epoch))
        ]
        with room_for(training.batch_size), _own_random_state(device):
            if state.step == 0:
                state.method.begin_epoch(epoch, _surveyed(state.classifier, data, fitted, held_out, spec, epoch))
            progress.advance(state.tally.images)
            for step in range(state.step, steps):
                torch.manual_seed(seed_from(training.seed, "dropout", epoch, step))
                generator = _generator(device, training.seed, "step", epoch, step)
                rows = state.method.choose(step, order, data.labels, training.batch_size, generator)
                x, y = _batch(state.classifier, data, rows, training, generator)
                for group in state.optimizer.param_groups:
                    group["lr"] = learning_rate(training, epoch, (step + 1) / steps)
                loss, weight = training_step(state.classifier, state.optimizer, state.method, x, y, spec, generator)
                state.tally.add(loss, len(x), weight)
                state.step = step + 1
                if state.average:
                    state.average.after_step(state.classifier)
                if checkpoint and state.step % checkpoint_steps == 0:
                    checkpointing.save(checkpoint, state, identity)
                progress.advance(len(x))
            if state.average:
                state.average.after_epoch(
                    state.classifier, lambda: _validate(state.classifier, data, held_out, spec, progress)[2]
                )
            accuracies = _validate(state.judged, data, held_out, spec, progress)
        row = EpochRow(
            epoch=epoch + 1,
            learning_rate=training.learning_rates[epoch],
            loss=state.tally.loss / state.tally.images,
            class_weights=tuple((state.tally.weight / state.tally.batches.clamp_min(1)).tolist()),
            held_out_clean=accuracies[0],
            held_out_mean=accuracies[1],
            held_out_worst=accuracies[2],
            seconds=time.monotonic() - begun,
        )
        state.epochs.append(row)
        state.step, state.tally = 0, Tally.empty(classifier.num_classes)
        if best_epoch(state.epochs) == row.epoch:
            state.best = _snapshot(state.judged)
        if checkpoint:
            checkpointing.save(checkpoint, state, identity)
        progress.record(row)

    state.classifier.load_state_dict(state.best)
    return Trained(state.classifier.eval(), tuple(state.epochs), best_epoch(state.epochs), len(held_out))


def training_step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    method: Method,
    x: Images,
    y: Labels,
    spec: FinetuneSpec,
    generator: torch.Generator,
) -> tuple[float, Tensor]:
    """One step on one batch; its weighted loss and the weight of each class's classification (on the CPU).

    The attack sees the classifier in eval mode. In train mode the clean batch goes first, for batch-norm's statistics.
    Raises: TrainingDiverged where the loss is not finite.
    """
    training, loss_name = spec.training, spec.method.loss
    classifier.eval()
    with _precision(classifier, training):
        x_adv = worst_images(classifier, x, y, spec.threat, training.attack, spec.attack_loss, generator, method.reach[y])
    classifier.train()
    with _worse_weights(classifier, method, x, x_adv, y, spec):
        with _precision(classifier, training):
            terms = losses.terms(classifier, x, x_adv, y, loss_name, clean_forward=training.clean_forward)
        emphasis = method.emphasis(terms.adversarial_logits.detach(), y)
        values = emphasis.weigh(terms, y)
        if not bool(values.isfinite().all()):
            raise _diverged("loss became NaN or infinite")
        loss = values.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    method.note(terms.adversarial_logits.detach(), y)
    return loss.item(), emphasis.classification.cpu()


def learning_rate(training: TrainingSpec, epoch: int, share: float) -> float:
    """The rate at `share` of the way through an epoch, counted from 0."""
    rates = training.learning_rates
    if training.schedule == "constant":
        return rates[epoch]
    before = rates[epoch - 1] if epoch else 0.0
    return before + share * (rates[epoch] - before)


def _worse_weights(
    classifier: Classifier, method: Method, x: Images, x_adv: Images, y: Labels, spec: FinetuneSpec
) -> AbstractContextManager[None]:
    """Within, the weights perturbed for this batch as the spec says, if it does."""
    perturbation = spec.training.weight_perturbation
    if perturbation is None:
        return nullcontext()

    def loss() -> Tensor:
        with _precision(classifier, spec.training):
            terms = losses.terms(classifier, x, x_adv, y, spec.method.loss)
        if perturbation.weighted:
            return method.emphasis(terms.adversarial_logits.detach(), y).weigh(terms, y).mean()
        return (terms.classification + method.beta * terms.divergence).mean()

    return perturbed_weights(classifier, perturbation.gamma, loss)


def _precision(classifier: Classifier, training: TrainingSpec) -> torch.autocast:
    """Within, what gains from it is computed in the spec's precision; `Classifier` answers in float32 all the same."""
    return torch.autocast(
        classifier.device.type, dtype=torch.bfloat16, enabled=training.precision == "bfloat16", cache_enabled=False
    )


def _beginning(classifier: Classifier, spec: FinetuneSpec) -> TrainingState:
    """The state before the first step."""
    training = spec.training
    optimizer = torch.optim.SGD(
        classifier.parameters(),
        lr=training.learning_rates[0],
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    average = WeightAverage(classifier, training.averaging) if training.averaging else None
    method = methods.build(spec.method, classifier.num_classes).to(classifier.device)
    return TrainingState(
        classifier, optimizer, method, average, _snapshot(classifier), Tally.empty(classifier.num_classes)
    )


def _generator(device: torch.device, *purpose: int | str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed_from(*purpose))


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Within, torch's own generators, from which dropout draws, may be seeded; afterwards they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _surveyed(
    classifier: Classifier, data: LabelledImages, fitted: Tensor, held_out: Tensor, spec: FinetuneSpec, epoch: int
) -> Surveyed:
    """What a method may ask about the classifier before an epoch."""

    def look(part: Literal["fitted", "held out"]) -> Survey:
        generator = _generator(classifier.device, spec.training.seed, "survey", part, epoch)
        with _precision(classifier, spec.training):
            return survey(classifier, data, fitted if part == "fitted" else held_out, spec, generator)

    return look


def _batch(
    classifier: Classifier, data: LabelledImages, rows: Tensor, spec: TrainingSpec, generator: torch.Generator
) -> tuple[Images, Labels]:
    """Those images, augmented and laid out for the classifier, and their labels."""
    x = data.pixels(rows, generator.device)
    if spec.augment == "crop-flip":
        x = crop_and_flip(x, generator)
    return classifier.lay_out(x), data.labels[rows].to(generator.device)


def _validate(
    classifier: Classifier, data: LabelledImages, held_out: Tensor, spec: FinetuneSpec, progress: Progress
) -> tuple[float | None, float | None, float | None]:
    """Clean, mean robust and worst-class robust accuracy on the held-out images, under PGD as strong as in training.

    Raises: TrainingDiverged where the epoch's last step spoilt the weights.
    """
    if not all(bool(value.isfinite().all()) for value in classifier.state_dict().values()):
        raise _diverged("weights became NaN or infinite")
    if not len(held_out):
        return None, None, None
    images = data.take(held_out)
    training = spec.training
    attack = PgdSpec(steps=training.attack.steps, relative_step=training.attack.relative_step)
    evaluator = Evaluator(
        classifier, images, device=classifier.device, batch_size=training.batch_size, seed=training.seed
    )
    try:
        evaluation, _ = evaluate(evaluator, spec.threat, (attack,), Part(progress, "held out", rows=False))
    except ClassifierUnsuitable as error:
        raise _diverged("network's logits became NaN or infinite") from error
    table = ClassTable(evaluation, data.class_names, attacks=1, confidence=0.95)
    robust = table.robust / table.images
    return float((table.clean / table.images).mean()), float(robust.mean()), float(robust.min())


def _diverged(what: str) -> TrainingDiverged:
    return TrainingDiverged(f"The {what}; try a smaller learning rate. No weights were kept.")


def _snapshot(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in classifier.state_dict().items()}


def _identity(classifier: Classifier, data: LabelledImages, spec: FinetuneSpec) -> str:
    """What a checkpoint must have been made from to be taken up again."""
    parts = [weights.digest(classifier), data.sha256, spec.model_dump_json(exclude={"audit"})]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
