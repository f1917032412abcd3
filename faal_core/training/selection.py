"""Which weights are selected, by their accuracy on the validation images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.results.finetune_documents import Candidate, EpochRow
from faal_core.specs import TrainingSpec
from faal_core.specs.training import INTERPOLATIONS
from faal_core.training.head import HeadChange
from faal_core.training.validation import ValidationAccuracy

Weights = Mapping[str, Tensor]
_ROUNDING = 1e-12  # of a difference of rates


class MeasuredWeights(NamedTuple):
    """Describes how weights are made, and their accuracy on the validation images.

    Args:
        interpolation: place between the start of training, 0, and the best epoch's weights, 1.
        offset_scale: scale of the change of the last layer in the weights that training started with, or in these where they
            are a start.
    """

    interpolation: float
    offset_scale: float
    accuracy: ValidationAccuracy


@dataclass(frozen=True, slots=True)
class Starts:
    """Weights that training can start from: the original ones, and these with a scaled change of the last layer.

    Args:
        original: accuracy of the original weights.
        changed: accuracy by the scale of the change.
    """

    original: ValidationAccuracy
    changed: Mapping[float, ValidationAccuracy]

    def list_weights(self) -> list[MeasuredWeights]:
        """List all starts, the original weights first."""
        scaled = [MeasuredWeights(0.0, scale, accuracy) for scale, accuracy in self.changed.items()]
        return [MeasuredWeights(0.0, 0.0, self.original), *scaled]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Weights that can be selected: the original ones, and all others."""

    original: Candidate
    others: tuple[Candidate, ...]

    @property
    def in_order(self) -> tuple[Candidate, ...]:
        """Return all candidates in the order of the report, which numbers them from 0."""
        return self.original, *self.others


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The selected classifier and how training led to it.

    Args:
        selected_epoch: number of the best epoch, from 1; 0 where the method trains nothing.
        candidates: None where the spec sets no bounds; the best epoch's weights are selected then.
        selected: the candidate that was selected.
        head: the change of the last layer, without a scale; it may be empty.
        best_epoch_weights: of the best epoch, one end of the interpolations; the selected weights where nothing was trained.
    """

    classifier: Classifier
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    validation_images: int
    candidates: Candidates | None
    selected: Candidate | None
    head: HeadChange
    best_epoch_weights: Weights

    @property
    def kept_original(self) -> bool:
        """Return whether the original weights are selected: no others within the bounds are better by `best_candidate`."""
        return self.candidates is not None and self.selected == self.candidates.original

    @property
    def interpolation(self) -> float:
        """Return the selected weights' place between the start of training, 0, and the best epoch's weights, 1."""
        return 1.0 if self.selected is None else self.selected.interpolation

    @property
    def offset_scale(self) -> float:
        """Return the scale of the change of the last layer in the selected weights."""
        return 0.0 if self.selected is None else self.selected.offset_scale

    @property
    def scaled_offsets(self) -> tuple[float, ...] | None:
        """Return the scaled offsets that the selected weights have; None where they have none."""
        if self.head.class_offsets is None or not self.offset_scale:
            return None
        return tuple((self.offset_scale * self.head.class_offsets).tolist())


def best_epoch(
    accuracies: Sequence[ValidationAccuracy], original: ValidationAccuracy | None, training: TrainingSpec
) -> int:
    """Return the index of the epoch with the highest mean plus worst-class robust accuracy on the validation images.

    Epochs within the bounds go before all others; of equals the later one is taken.

    Args:
        accuracies: one an epoch.
        original: accuracy of the original weights; None where the spec sets no bounds.
    Differs: the published code chose on test images.
    """

    def rank(epoch: int) -> tuple[bool, float, int]:
        one = accuracies[epoch]
        return original is None or within_bounds(one, original, training), one.robust_mean + one.robust_worst, epoch

    return max(range(len(accuracies)), key=rank)


def within_bounds(accuracy: ValidationAccuracy, original: ValidationAccuracy, training: TrainingSpec) -> bool:
    """Return whether no bounded accuracy falls below that of the original weights by more than the spec allows."""
    drops = (
        (accuracy.robust_drop(original), training.max_robust_drop),
        (accuracy.clean_drop(original), training.max_clean_drop),
        (accuracy.class_drop(original), training.max_class_drop),
    )
    return all(bound is None or drop <= bound + _ROUNDING for drop, bound in drops)


def interpolate(start: Weights, end: Weights, interpolation: float) -> dict[str, Tensor]:
    """Return the weights at that place between `start`, 0, and `end`, 1; whole numbers are those of `end`.

    Source: Wortsman et al. 2022 (WiSE-FT), for weights that were fine-tuned from others; it preserves abilities of the start.
    """
    return {
        name: torch.lerp(start[name], value, interpolation) if value.is_floating_point() else value
        for name, value in end.items()
    }


def best_offset_scale(starts: Starts | None, training: TrainingSpec) -> float:
    """Return the scale of the change of the last layer that training starts with; 0 where no starts were validated."""
    if starts is None:
        return 0.0
    return best_candidate(describe_candidates(starts, [], training)).offset_scale


def measure_candidates(
    starts: Starts,
    start: Weights,
    end: MeasuredWeights,
    end_weights: Weights,
    training: TrainingSpec,
    validate: Callable[[Weights], ValidationAccuracy],
) -> Candidates:
    """Validate interpolations between `start` and the best epoch, and describe all candidates.

    Args:
        starts: their accuracies.
        start: weights of the best of them, which training started with.
        end: the best epoch.
        validate: called once for each interpolation.
    """
    interpolated = [
        MeasuredWeights(place, end.offset_scale, validate(interpolate(start, end_weights, place)))
        for place in INTERPOLATIONS
    ]
    return describe_candidates(starts, [*interpolated, end], training)


def describe_candidates(starts: Starts, trained: Sequence[MeasuredWeights], training: TrainingSpec) -> Candidates:
    """Describe starts and trained weights as candidates: what they cost, and whether they are on the Pareto front."""
    measured_weights = [*starts.list_weights(), *trained]
    accuracies = [one.accuracy for one in measured_weights]
    original, *others = (
        Candidate(
            interpolation=interpolation,
            offset_scale=offset_scale,
            clean=accuracy.clean_mean,
            robust=accuracy.robust_mean,
            robust_worst=accuracy.robust_worst,
            worst_standard_error=accuracy.worst_standard_error,
            class_drop=accuracy.class_drop(starts.original),
            within_bounds=within_bounds(accuracy, starts.original, training),
            on_front=_on_front(accuracy, accuracies),
        )
        for interpolation, offset_scale, accuracy in measured_weights
    )
    return Candidates(original, tuple(others))


def _on_front(accuracy: ValidationAccuracy, others: Sequence[ValidationAccuracy]) -> bool:
    """Return whether no other is as good in mean and worst class, and better in one of them."""
    own = (accuracy.robust_mean, accuracy.robust_worst)
    pairs = [(other.robust_mean, other.robust_worst) for other in others]
    return not any(mean >= own[0] and worst >= own[1] and (mean, worst) != own for mean, worst in pairs)


def best_candidate(candidates: Candidates) -> Candidate:
    """Return the candidate within the bounds whose worst class is most robust; the original weights if none is.

    Trained weights must exceed the best start by more than one standard error of its worst class: a smaller gain may be chance,
    and training can cost what the validation images do not show. Of equals the one with the greater mean is taken, then the one
    with the greater interpolation.

    Source: Breiman et al., Classification and Regression Trees, 1984, section 3.4.3 (one standard error).
    """
    start = _most_robust([one for one in candidates.others if not one.interpolation], candidates.original, 0.0)
    trained = [one for one in candidates.others if one.interpolation]
    assert start.worst_standard_error is not None  # noqa: S101 - reports of earlier versions alone lack it
    return _most_robust(trained, start, start.worst_standard_error)


def _most_robust(candidates: Sequence[Candidate], simpler: Candidate, least_gain: float) -> Candidate:
    """Return the most robust candidate within the bounds that exceeds the simpler one by more than that; else the latter."""
    least = simpler.robust_worst + least_gain + _ROUNDING
    better = [one for one in candidates if one.within_bounds and one.robust_worst > least]
    return max(better, key=lambda one: (one.robust_worst, one.robust, one.interpolation), default=simpler)
