"""The training loop, top to bottom: attack the batch, weigh its classes, step; then validate, keep, save."""

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from faal_core import weights
from faal_core.attacks.pgd import pgd
from faal_core.attacks.randomness import BatchRandom, seed_from
from faal_core.classifier import Classifier, Images, Labels
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.device_memory import room_for
from faal_core.errors import ClassifierUnsuitable, TrainingDiverged
from faal_core.evaluation import Evaluator, check_fit, evaluate
from faal_core.per_class import ClassTable
from faal_core.progress import NoProgress, Part, Progress
from faal_core.reports.documents import EpochRow
from faal_core.specs import FinetuneSpec, TrainingSpec
from faal_core.training import checkpointing
from faal_core.training.augmentation import crop_and_flip
from faal_core.training.checkpointing import TrainingState
from faal_core.training.class_weights import class_weights
from faal_core.training.losses import LOSSES
from faal_core.training.selection import best_epoch, hold_out


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
    progress: Progress | None = None,
) -> Trained:
    """A trained copy of `classifier`, which itself stays as it was.

    With `checkpoint`, a file, a run that was killed goes on after its last finished epoch, and on a CPU with the same
    number of threads ends with the same weights as an undisturbed one, bit for bit.

    Raises: TrainingDiverged, InvalidSpec, OutOfMemory; Cancelled through `progress`.
    Source: Zhang et al., CVPR 2024 (FAAL with the AT loss); `kl_radius: 0` is Madry et al. 2018.
    Differs: the epoch is chosen on images held out from the training data (docs/method.md lists the rest).
    """
    check_fit(classifier, data)
    progress = progress or NoProgress()
    identity = _identity(classifier, data, spec)
    training = spec.training
    classifier = copy.deepcopy(classifier).place(device)
    optimizer = torch.optim.SGD(
        classifier.parameters(),
        lr=training.learning_rates[0],
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    fitted, held_out = hold_out(data, training.held_out_share, training.seed)
    state = checkpointing.load(checkpoint, identity, device) if checkpoint else None
    if state:
        classifier.load_state_dict(state.weights)
        optimizer.load_state_dict(state.optimizer)
    state = state or TrainingState(_snapshot(classifier), {}, {})

    for epoch in range(len(state.epochs), training.epochs):
        begun = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rates[epoch]
        progress.stage(f"epoch {epoch + 1} of {training.epochs}", len(fitted))
        generator = torch.Generator(device).manual_seed(seed_from(training.seed, "epoch", epoch))
        losses, seen = 0.0, 0
        weight_sums, batches_with = torch.zeros(classifier.num_classes), torch.zeros(classifier.num_classes)
        with room_for(training.batch_size), _seeded_dropout(device, training.seed, epoch):
            for x, y in _batches(classifier, data, fitted, training, generator):
                loss, weight_of_class = training_step(classifier, optimizer, x, y, spec, generator)
                losses, seen = losses + loss * len(x), seen + len(x)
                weight_sums += weight_of_class
                batches_with += weight_of_class > 0
                progress.advance(len(x))
            accuracies = _validate(classifier, data, held_out, spec, progress)
        row = EpochRow(
            epoch=epoch + 1,
            learning_rate=training.learning_rates[epoch],
            loss=losses / seen,
            class_weights=tuple((weight_sums / batches_with.clamp_min(1)).tolist()),
            held_out_clean=accuracies[0],
            held_out_mean=accuracies[1],
            held_out_worst=accuracies[2],
            seconds=time.monotonic() - begun,
        )
        state.epochs.append(row)
        state.weights, state.optimizer = _snapshot(classifier), optimizer.state_dict()
        if best_epoch(state.epochs) == row.epoch:
            state.best_weights = state.weights
        if checkpoint:
            checkpointing.save(checkpoint, state, identity)
        progress.record(row)

    classifier.load_state_dict(state.best_weights)
    return Trained(classifier.eval(), tuple(state.epochs), best_epoch(state.epochs), len(held_out))


def training_step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    x: Images,
    y: Labels,
    spec: FinetuneSpec,
    generator: torch.Generator,
) -> tuple[float, Tensor]:
    """One step on one batch; its weighted loss and its class weights (on the CPU).

    The attack sees the classifier in eval mode. In train mode the clean batch goes first, for batch-norm's statistics.
    Raises: TrainingDiverged where the loss is not finite.
    """
    classifier.eval()
    x_adv = pgd(classifier, x, y, spec.threat, spec.training.attack, BatchRandom(generator), until_broken=False)
    classifier.train()
    if spec.training.clean_forward:
        with torch.no_grad():
            classifier(x)
    logits = classifier(x_adv)
    losses = LOSSES[spec.method.loss](logits, y)
    if not bool(losses.isfinite().all()):
        raise _diverged("loss became NaN or infinite")
    weight_of_class = class_weights(logits, y, spec.method)
    loss = (weight_of_class[y] * losses).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), weight_of_class.cpu()


@contextmanager
def _seeded_dropout(device: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Within, torch's own generators, from which dropout draws, start from the epoch's seed; afterwards they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_from(seed, "dropout", epoch))
        yield


def _batches(
    classifier: Classifier, data: LabelledImages, rows: Tensor, spec: TrainingSpec, generator: torch.Generator
) -> Iterator[tuple[Images, Labels]]:
    """The epoch's batches: all rows once, shuffled; a last batch of one image is left out (batch-norm needs two)."""
    device = generator.device
    shuffled = rows[torch.randperm(len(rows), generator=generator, device=device).cpu()]
    for chosen in shuffled.split(spec.batch_size):
        if len(chosen) < 2:
            continue
        x = data.pixels(chosen, device)
        if spec.augment == "crop-flip":
            x = crop_and_flip(x, generator)
        yield classifier.lay_out(x), data.labels[chosen].to(device)


def _validate(
    classifier: Classifier, data: LabelledImages, held_out: Tensor, spec: FinetuneSpec, progress: Progress
) -> tuple[float | None, float | None, float | None]:
    """Clean, mean robust and worst-class robust accuracy on the held-out images, under the training attack.

    Raises: TrainingDiverged where the epoch's last step spoilt the weights.
    """
    if not all(bool(value.isfinite().all()) for value in classifier.state_dict().values()):
        raise _diverged("weights became NaN or infinite")
    if not len(held_out):
        return None, None, None
    images = data.take(held_out)
    batch_size, seed, attack = spec.training.batch_size, spec.training.seed, spec.training.attack
    evaluator = Evaluator(classifier, images, device=classifier.device, batch_size=batch_size, seed=seed)
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
