"""The training loop, top to bottom: attack the batch, weigh its classes, step; then validate, select the best, save."""

import copy
import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faal_core import weights
from faal_core.attacks.randomness import seed_from
from faal_core.auditing.processes import Executors
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.devices import Pieces, require_room
from faal_core.progress import NoProgress, Progress
from faal_core.results.finetune_documents import EpochRow
from faal_core.specs import FinetuneSpec
from faal_core.training import checkpointing, methods
from faal_core.training.augmentation import augment
from faal_core.training.averaging import WeightAverage
from faal_core.training.beginning import Beginning, begin, select_start
from faal_core.training.cells import Cells, assign_cells
from faal_core.training.divergence import require_finite_weights
from faal_core.training.head import change_head, freeze_features
from faal_core.training.inner_maximum import AttackBatch, start_attack
from faal_core.training.ranks import SINGLE_RANK, Ranks
from faal_core.training.row_split import split_rows
from faal_core.training.run import TrainingRun
from faal_core.training.selection import (
    MeasuredWeights,
    TrainingResult,
    Weights,
    best_candidate,
    best_epoch,
    best_offset_scale,
    interpolate,
    measure_candidates,
)
from faal_core.training.state import Tally, TrainingState, snapshot
from faal_core.training.step import training_step
from faal_core.training.survey import survey
from faal_core.training.validation import ValidationAccuracy, validate


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
    ranks: Ranks = SINGLE_RANK,
    executors: Executors | None = None,
) -> TrainingResult:
    """Train a copy of `classifier`, which starts with class offsets where the spec asks for them.

    A method without training changes the last layer of the copy alone, and selects how far.

    A killed run resumes from `checkpoint` and replays the rows of its finished epochs. Where results are reproducible
    (docs/explanation/claims.md says where) it ends with the weights of an uninterrupted run, bit for bit.

    Args:
        checkpoint: file that is replaced every `checkpoint_steps` steps and each epoch; None writes none.
        reserve: training ends, after one step at least, once `progress` has no more than this many seconds left.
        ranks: the processes that train together, each with the same arguments. The first one writes the checkpoint; all read it.
        executors: open what validates for a single rank; processes of this machine when absent.
    Raises: TrainingDiverged, InvalidSpec, OutOfMemory; ClassifierUnsuitable where such a method finds no layer to change;
        Cancelled through `progress`.
    Source: Zhang et al., CVPR 2024 (FAAL); every other method names its own in `faal_core.training.methods`.
    Differs: a part of the training data validates and selects the epoch (docs/explanation/faal.md lists all differences).
    """
    data = match_classes(classifier, data)
    cells = assign_cells(data, spec.method)
    progress = progress if progress and ranks.is_leader else NoProgress()
    run = TrainingRun(
        spec=spec,
        data=data,
        cells=cells,
        rows=split_rows(data, spec.training.validation_fraction, spec.training.seed, cells),
        device=device,
        pieces=_pieces(spec.training.batch_size, ranks),
        progress=progress,
        ranks=ranks,
        limited=ranks.broadcast(progress.time_left() < math.inf),
        reserve=reserve,
        executors=executors or Executors(),
        checkpoint=checkpoint,
        checkpoint_steps=checkpoint_steps,
        identity=_identity(classifier, data, cells, spec),
    )
    original = copy.deepcopy(classifier).place(device)
    saved = _read_checkpoint(run)
    beginning = checkpointing.beginning(saved) if saved else begin(original, run)
    if not spec.epochs:
        if saved is None:
            _save(beginning, run)
        return select_start(original, beginning, run)
    state = _start_or_resume(original, beginning, saved, run)
    for row in state.epochs:
        run.progress.replay(row)
    while not _is_finished(state, run):
        row = _train_epoch(state, run)
        if _best_epoch(state, run) == row.epoch:
            state.best = snapshot(state.validated_classifier)
        _save(state, run)
        run.progress.record(row)
    return _select_weights(original, state, run)


def _is_finished(state: TrainingState, run: TrainingRun) -> bool:
    """Return whether no other epoch starts: all are done, or no time is left."""
    if len(state.epochs) >= run.training.epochs or state.ended_early:
        return True
    return state.is_between_epochs and run.out_of_time()


def _train_epoch(state: TrainingState, run: TrainingRun) -> EpochRow:
    """Train the rest of the current epoch, or what the time allows, and validate the weights."""
    epoch, started_at = len(state.epochs), time.monotonic()
    run.progress.stage(f"epoch {epoch + 1} of {run.training.epochs}", len(run.rows.training))
    shuffled_rows = run.shuffled_rows(epoch)
    with require_room(run.training.batch_size), _isolated_random_state(run.device):
        if state.step == 0:
            state.method.begin_epoch(epoch, partial(survey, state.classifier, run, epoch))
        run.progress.advance(state.tally.images)
        for step in range(state.step, run.steps_per_epoch):
            torch.manual_seed(seed_from(run.training.seed, "dropout", epoch, step, run.ranks.rank))
            batch = _choose_batch(state, shuffled_rows, epoch, step, run)
            for group in state.optimizer.param_groups:
                group["lr"] = run.training.learning_rate(epoch, (step + 1) / run.steps_per_epoch)
            result = training_step(state.classifier, state.optimizer, state.method, batch, run)
            state.after_step(result.loss, len(batch.x), result.class_weights)
            if state.step % run.checkpoint_steps == 0:
                _save(state, run)
            run.progress.advance(len(batch.x))
            if run.out_of_time():
                break
        require_finite_weights(state.classifier)
        if state.average:
            state.average.after_epoch(state.classifier, partial(validate, run=run))
        accuracy = validate(state.validated_classifier, run) if len(run.rows.validation) else None
    fraction, seconds = state.step / run.steps_per_epoch, time.monotonic() - started_at
    return state.after_epoch(fraction, run.training.learning_rates[epoch], accuracy, seconds)


def _choose_batch(state: TrainingState, shuffled_rows: Tensor, epoch: int, step: int, run: TrainingRun) -> AttackBatch:
    """Return the batch of that step, augmented and laid out for the classifier, with the start of its attack."""
    generator = run.generator("step", epoch, step)
    rows = state.method.choose_rows(step, shuffled_rows, run.data.labels, run.steps_per_epoch, generator)
    x = augment(run.data.pixels(rows, run.device), run.training.augment or run.data.augmentation, generator)
    y = run.data.labels[rows].to(run.device)
    cells = run.cells.numbers[rows].to(run.device)
    return start_attack(state.classifier.lay_out(x), y, state.method.relative_radius[y], run.spec, generator, cells)


def _pieces(batch_size: int, ranks: Ranks) -> Pieces:
    """Return the pieces of a batch: of three images at least, so that none has a single one, which batch-norm refuses.

    Several ranks try no smaller pieces: a second try would wait for values that the other ranks do not send.
    """
    return Pieces(batch_size, least=3 if ranks.count == 1 else batch_size)


def _start_or_resume(
    original: Classifier, beginning: Beginning, saved: dict[str, Any] | None, run: TrainingRun
) -> TrainingState:
    """Return the state of the run's checkpoint, or the state before the first step.

    Training starts with the given weights and as much of the change of the last layer as the bounds allow.
    """
    offset_scale = best_offset_scale(beginning.starts, run.training)
    state = _initial_state(change_head(copy.deepcopy(original), beginning.head, offset_scale), beginning, run)
    if saved:
        checkpointing.restore(state, saved)
    elif beginning.starts:
        _save(state, run)
    return state


def _initial_state(classifier: Classifier, beginning: Beginning, run: TrainingRun) -> TrainingState:
    """Return the state before the first step, which trains `classifier`."""
    training = run.training
    method = methods.build(run.spec.method, run.cells.count).to(classifier.device)
    if not method.trains_features:
        freeze_features(classifier)
    start = snapshot(classifier)
    return TrainingState(
        classifier=classifier,
        optimizer=torch.optim.SGD(
            classifier.parameters(),
            lr=training.learning_rates[0],
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        ),
        method=method,
        average=WeightAverage(classifier, training.averaging) if training.averaging else None,
        start=start,
        best=start,
        tally=Tally.empty(run.cells.count),
        head=beginning.head,
        starts=beginning.starts,
    )


def _read_checkpoint(run: TrainingRun) -> dict[str, Any] | None:
    """Return the checkpoint's content, if it is this run's. Raises: InvalidSpec where ranks did not read the same."""
    if run.checkpoint is None:
        return None
    saved = checkpointing.read(run.checkpoint, run.identity, run.device)
    finished = (len(saved["epochs"]), saved["step"]) if saved and run.spec.epochs else (0, 0)
    run.ranks.require_same(f"The state read from {run.checkpoint}", saved is not None, *finished)
    return saved


def _save(state: TrainingState | Beginning, run: TrainingRun) -> None:
    """Save a checkpoint, where the run has one and this rank leads."""
    if run.checkpoint and run.ranks.is_leader:
        checkpointing.save(run.checkpoint, state, run.identity)


def _best_epoch(state: TrainingState, run: TrainingRun) -> int:
    """Return the number, from 1, of the best finished epoch; the last one where no images validate."""
    if not state.accuracies:
        return len(state.epochs)
    original = state.starts.original if state.starts else None
    return best_epoch(state.accuracies, original, run.training) + 1


def _select_weights(original: Classifier, state: TrainingState, run: TrainingRun) -> TrainingResult:
    """Select among the candidates, or the best epoch where the spec sets no bounds, and load its weights into `original`."""
    number = _best_epoch(state, run)
    candidates = selected = None
    if state.starts:
        offset_scale = best_offset_scale(state.starts, run.training)
        end = MeasuredWeights(1.0, offset_scale, state.accuracies[number - 1])
        validate_ = partial(_validate_weights, state.classifier, run)
        candidates = measure_candidates(state.starts, state.start, end, state.best, run.training, validate_)
        selected = best_candidate(candidates)
    result = TrainingResult(
        classifier=original,
        epochs=tuple(state.epochs),
        selected_epoch=number,
        validation_images=len(run.rows.validation),
        candidates=candidates,
        selected=selected,
        head=state.head,
        best_epoch_weights=state.best,
    )
    if result.interpolation == 0:
        change_head(original, state.head, result.offset_scale)
    else:
        original.load_state_dict(interpolate(state.start, state.best, result.interpolation))
    original.eval()
    return result


def _validate_weights(classifier: Classifier, run: TrainingRun, some_weights: Weights) -> ValidationAccuracy:
    """Load weights into the classifier, and validate it."""
    classifier.load_state_dict(some_weights)
    return validate(classifier, run)


@contextmanager
def _isolated_random_state(device: torch.device) -> Iterator[None]:
    """Restore torch's own generators, which dropout draws from, at the end of the block, which may seed them."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _identity(classifier: Classifier, data: LabelledImages, cells: Cells, spec: FinetuneSpec) -> str:
    """Return a digest of what a checkpoint must have been made from to be resumed."""
    parts = [weights.digest(classifier), data.sha256, data.augmentation, spec.model_dump_json(exclude={"audit"})]
    digest = hashlib.sha256("\n".join(parts).encode())
    if cells.numbers is not data.labels:  # the digest of the data does not cover groups
        digest.update(cells.numbers.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
