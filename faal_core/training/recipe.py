"""The training loop, top to bottom: attack the batch, weigh its classes, step; then validate, keep, save."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from faal_core import weights
from faal_core.attacks.randomness import seed_from
from faal_core.classifier import Classifier, Images, Labels
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.device_memory import Pieces, room_for
from faal_core.progress import NoProgress, Progress
from faal_core.results.finetune_documents import Candidate
from faal_core.specs import FinetuneSpec, TrainingSpec
from faal_core.specs.training import OFFSET_SCALES
from faal_core.training import checkpointing, methods
from faal_core.training.augmentation import augment
from faal_core.training.averaging import WeightAverage
from faal_core.training.checkpointing import Tally, TrainingState
from faal_core.training.offsets import find_offsets, with_offsets
from faal_core.training.ranks import ALONE, Ranks
from faal_core.training.selection import (
    Beginning,
    Trained,
    Weights,
    best_beginning,
    best_candidate,
    best_epoch,
    between,
    drawn,
    find_candidates,
    hold_out,
)
from faal_core.training.step import precision, training_step
from faal_core.training.survey import Survey, Surveyed, survey
from faal_core.training.validation import HeldOutAccuracy, require_finite, validate


def train(
    classifier: Classifier,
    data: LabelledImages,
    spec: FinetuneSpec,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    checkpoint_steps: int = 100,
    progress: Progress | None = None,
    reserve: float = 0.0,
    ranks: Ranks = ALONE,
) -> Trained:
    """A trained copy of `classifier`, which itself stays as it was; it begins with class offsets where the spec says so.

    With `checkpoint`, a file replaced every `checkpoint_steps` steps and each epoch, a killed run goes on from there, recalls its
    epochs, and where results repeat (docs/claims.md says where) ends with the weights of an undisturbed one, bit for bit.

    Args:
        reserve: training ends, after a step at least, where `progress` has no more than so many seconds left.
        ranks: the processes that train together, each with the same arguments; the first keeps the checkpoint, which all read.
    Raises: TrainingDiverged, InvalidSpec, OutOfMemory; Cancelled through `progress`.
    Source: Zhang et al., CVPR 2024 (FAAL); every other method names its own in `faal_core.training.methods`.
    Differs: the epoch is chosen on images held out from the training data (docs/method.md lists the rest).
    """
    data = match_classes(classifier, data)
    progress = progress if progress and ranks.leads else NoProgress()
    identity, training = _identity(classifier, data, spec), spec.training
    fitted, held_out = hold_out(data, training.held_out_share, training.seed)
    steps, pieces = _steps(len(fitted), training.batch_size), _pieces(training.batch_size, ranks)
    chosen = copy.deepcopy(classifier).place(device)

    def judge(judged: Classifier) -> HeldOutAccuracy:
        return validate(judged, data, held_out, spec, progress, ranks)

    limited = ranks.told(progress.time_left() < math.inf)

    def over() -> bool:
        return limited and ranks.told(progress.time_left() <= reserve)

    some = drawn(fitted, data.labels[fitted], 2 * len(held_out), training.seed)
    search = partial(find_offsets, chosen, data, some, spec, progress, ranks)
    state, start = _begun(chosen, spec, search, judge, checkpoint, identity, ranks)
    for row in state.epochs:
        progress.recall(row)
    while len(state.epochs) < training.epochs and not state.cut and not (state.between_epochs and over()):
        epoch, begun = len(state.epochs), time.monotonic()
        progress.stage(f"epoch {epoch + 1} of {training.epochs}", len(fitted))
        order = _shuffled(fitted, training.seed, epoch)
        surveyed = _surveyed(state.classifier, data, fitted, held_out, spec, epoch, pieces, ranks)
        with room_for(training.batch_size), _own_random_state(device):
            if state.step == 0:
                state.method.begin_epoch(epoch, surveyed)
            progress.advance(state.tally.images)
            for step in range(state.step, steps):
                torch.manual_seed(seed_from(training.seed, "dropout", epoch, step, ranks.number))
                generator = _generator(device, training.seed, "step", epoch, step)
                rows = state.method.choose(step, order, data.labels, steps, generator)
                x, y = _batch(state.classifier, data, rows, training, generator)
                for group in state.optimizer.param_groups:
                    group["lr"] = training.learning_rate(epoch, (step + 1) / steps)
                loss, weight = training_step(
                    state.classifier, state.optimizer, state.method, x, y, spec, generator, pieces, ranks
                )
                state.after_step(loss, len(x), weight)
                if checkpoint and ranks.leads and state.step % checkpoint_steps == 0:
                    checkpointing.save(checkpoint, state, identity)
                progress.advance(len(x))
                if over():
                    break
            require_finite(state.classifier)
            if state.average:
                state.average.after_epoch(state.classifier, judge)
            accuracy = judge(state.judged) if len(held_out) else None
        row = state.after_epoch(state.step / steps, training.learning_rates[epoch], accuracy, time.monotonic() - begun)
        if _best_epoch(state, training) == row.epoch:
            state.best = _snapshot(state.judged)
        if checkpoint and ranks.leads:
            checkpointing.save(checkpoint, state, identity)
        progress.record(row)
    return _settled(chosen, state, start, len(held_out), training, judge)


def _steps(images: int, batch_size: int) -> int:
    """Return the number of batches an epoch, of `batch_size` images at most, or of three where pairs leave one over."""
    steps = math.ceil(images / batch_size)
    return steps if images // steps > 1 else max(images // 2, 1)  # batch-norm needs two images


def _pieces(batch_size: int, ranks: Ranks) -> Pieces:
    """Of three images at least, so that none has a single one, which batch-norm refuses.

    Several processes try no smaller ones: a second try would ask of the others what they do not send.
    """
    return Pieces(batch_size, least=3 if ranks.count == 1 else batch_size)


def _shuffled(rows: Tensor, seed: int, epoch: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=_generator(torch.device("cpu"), seed, "epoch", epoch))]


def _begun(
    classifier: Classifier,
    spec: FinetuneSpec,
    search: Callable[[], Tensor | None],
    judge: Callable[[Classifier], HeldOutAccuracy],
    checkpoint: Path | None,
    identity: str,
    ranks: Ranks,
) -> tuple[TrainingState, Weights]:
    """The state that training goes on from, and the weights that it began with: the given ones with a share of the offsets.

    Args:
        search: finds class offsets, if there are any.
    """

    def moved(share: float) -> Classifier:
        return with_offsets(copy.deepcopy(classifier), offsets, share)

    saved = _saved(checkpoint, identity, classifier.device, ranks)
    beginnings: tuple[Beginning, ...] = ()
    if saved:
        offsets = saved["offsets"]
        beginnings = tuple(Beginning(share, HeldOutAccuracy(*rates)) for share, *rates in saved["beginnings"])
    else:
        offsets = search() if spec.begins_with_offsets else None
        if spec.training.bounded:
            shares = (0.0,) if offsets is None else OFFSET_SCALES
            beginnings = tuple(Beginning(share, judge(moved(share))) for share in shares)
    state = _beginning(moved(best_beginning(beginnings, spec.training)), spec)
    state.offsets, state.beginnings = offsets, beginnings
    start = state.best
    if saved:
        state.restore(saved)
    elif beginnings and checkpoint and ranks.leads:
        checkpointing.save(checkpoint, state, identity)
    return state, start


def _best_epoch(state: TrainingState, training: TrainingSpec) -> int:
    """Return the number, from 1, of the best finished epoch; the last where nothing is held out."""
    if not state.accuracies:
        return len(state.epochs)
    return best_epoch(state.accuracies, state.given, training) + 1


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
    tally = Tally.empty(classifier.num_classes)
    return TrainingState(classifier, optimizer, method, average, _snapshot(classifier), tally)


def _saved(checkpoint: Path | None, identity: str, device: torch.device, ranks: Ranks) -> dict[str, Any] | None:
    """What the checkpoint holds, if it is this run's. Raises: InvalidSpec where processes did not read the same."""
    if checkpoint is None:
        return None
    saved = checkpointing.read(checkpoint, identity, device)
    reached = (len(saved["epochs"]), saved["step"]) if saved else (0, 0)
    ranks.require_same(f"What was read from {checkpoint}", saved is not None, *reached)
    return saved


def _settled(
    chosen: Classifier,
    state: TrainingState,
    start: Weights,
    held_out: int,
    training: TrainingSpec,
    judge: Callable[[Classifier], HeldOutAccuracy],
) -> Trained:
    """`chosen`, which has the given weights, with those that are kept in their place, and the way there."""

    def judge_weights(some: Weights) -> HeldOutAccuracy:
        state.classifier.load_state_dict(some)
        return judge(state.classifier)

    best, selected = _best_epoch(state, training), None
    candidates: tuple[Candidate, ...] = ()
    if state.beginnings:
        reached = state.accuracies[best - 1]
        candidates = find_candidates(state.beginnings, start, state.best, reached, training, judge_weights)
        selected = best_candidate(candidates)
    if selected is not None and candidates[selected].share == 0:
        with_offsets(chosen, state.offsets, candidates[selected].offsets)
    else:
        chosen.load_state_dict(between(start, state.best, 1.0 if selected is None else candidates[selected].share))
    return Trained(chosen.eval(), tuple(state.epochs), best, held_out, candidates, selected, state.offsets, state.best)


def _generator(device: torch.device, *purpose: int | str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed_from(*purpose))


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Within, torch's own generators, from which dropout draws, may be seeded; afterwards they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _surveyed(
    classifier: Classifier,
    data: LabelledImages,
    fitted: Tensor,
    held_out: Tensor,
    spec: FinetuneSpec,
    epoch: int,
    pieces: Pieces,
    ranks: Ranks,
) -> Surveyed:
    """What a method may ask about the classifier before an epoch."""

    def look(part: Literal["fitted", "held out"]) -> Survey:
        generator = _generator(classifier.device, spec.training.seed, "survey", part, epoch)
        with precision(classifier, spec.training):
            return survey(classifier, data, fitted if part == "fitted" else held_out, spec, generator, pieces, ranks)

    return look


def _batch(
    classifier: Classifier, data: LabelledImages, rows: Tensor, spec: TrainingSpec, generator: torch.Generator
) -> tuple[Images, Labels]:
    """Those images, augmented and laid out for the classifier, and their labels."""
    x = data.pixels(rows, generator.device)
    x = augment(x, spec.augment or data.augmentation, generator)
    return classifier.lay_out(x), data.labels[rows].to(generator.device)


def _snapshot(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in classifier.state_dict().items()}


def _identity(classifier: Classifier, data: LabelledImages, spec: FinetuneSpec) -> str:
    """What a checkpoint must have been made from to be taken up again."""
    parts = [weights.digest(classifier), data.sha256, data.augmentation, spec.model_dump_json(exclude={"audit"})]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
