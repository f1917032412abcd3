"""Which weights are kept, judged on images held out from the training data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Classifier, Labels
from faal_core.datasets.labelled_images import LabelledImages, stratified
from faal_core.errors import InvalidSpec
from faal_core.results.finetune_documents import Candidate, EpochRow
from faal_core.specs import TrainingSpec
from faal_core.specs.training import INTERPOLATIONS
from faal_core.training.validation import HeldOutAccuracy

Weights = Mapping[str, Tensor]
_ROUNDING = 1e-12  # of a difference of rates


class Beginning(NamedTuple):
    """Weights that training could begin with: the given ones with that share of the class offsets."""

    offsets: float
    accuracy: HeldOutAccuracy


@dataclass(frozen=True, slots=True)
class Trained:
    """The classifier that was chosen and the way there.

    Args:
        candidates: weights that could be kept, the given ones first; none where the spec sets no bounds.
        selected: number of the one that was kept; None where there are none.
        offsets: all of the class offsets, `k`; None where there are none.
        end: the best epoch's weights, which candidates lie on the way to.
    """

    classifier: Classifier
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    held_out_images: int
    candidates: tuple[Candidate, ...]
    selected: int | None
    offsets: Tensor | None
    end: Weights

    @property
    def kept_original(self) -> bool:
        """Whether the given weights are kept, since no others within the bounds make the worst class better."""
        return self.selected == 0

    @property
    def selected_share(self) -> float:
        """How far on the way to the epoch's weights those lie that were kept."""
        return 1.0 if self.selected is None else self.candidates[self.selected].share

    @property
    def selected_offsets(self) -> float:
        """Which share of the class offsets they have."""
        return 0.0 if self.selected is None else self.candidates[self.selected].offsets

    @property
    def class_offsets(self) -> tuple[float, ...] | None:
        """What they have added to each class's logit beside the training; None where that is nothing."""
        share = self.selected_offsets
        return tuple((share * self.offsets).tolist()) if self.offsets is not None and share else None


def hold_out(data: LabelledImages, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers to train on and row numbers held out: `share` of every class, at least one image, drawn by `seed`.

    Raises: InvalidSpec where a class would have nothing left to train on.
    """
    if share == 0:
        return torch.arange(len(data)), torch.arange(0)
    if data.counts.min() < 2:
        scarce = data.class_names[int(data.counts.argmin())]
        raise InvalidSpec(f"Class {scarce!r} has one training image: nothing can be held out; set held_out_share to 0.")
    held_out = data.stratified(max(len(data.class_names), round(share * len(data))), seed)
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[held_out] = False
    fitted = kept.nonzero().squeeze(1)
    if len(data.labels[fitted].unique()) < len(data.class_names):
        raise InvalidSpec(f"held_out_share {share} leaves a class of {data.name} without a training image.")
    return fitted, held_out


def drawn(rows: Tensor, labels: Labels, count: int, seed: int) -> Tensor:
    """So many of these rows, or all, in each class its share and at least one; `labels`, `n`, are theirs."""
    counts = torch.bincount(labels).numpy()
    return rows[stratified(labels, counts, min(max(count, len(counts)), len(rows)), seed)]


def best_epoch(accuracies: Sequence[HeldOutAccuracy], given: HeldOutAccuracy | None, training: TrainingSpec) -> int:
    """Return the number, from 0, of the epoch with the highest mean plus worst-class robust accuracy on held-out images.

    Epochs within the bounds go before all others; of equals the later one is taken.

    Args:
        accuracies: one an epoch.
        given: the given weights'; None where the spec sets no bounds.
    Differs: the published code chose on test images.
    """

    def rank(epoch: int) -> tuple[bool, float, int]:
        one = accuracies[epoch]
        return given is None or within_bounds(one, given, training), one.robust_mean + one.robust_worst, epoch

    return max(range(len(accuracies)), key=rank)


def within_bounds(one: HeldOutAccuracy, given: HeldOutAccuracy, training: TrainingSpec) -> bool:
    """Tell whether no bounded accuracy falls below the given weights' by more than the spec allows."""
    drops = (
        (one.robust_drop(given), training.max_robust_drop),
        (one.clean_drop(given), training.max_clean_drop),
        (one.class_drop(given), training.max_class_drop),
    )
    return all(bound is None or drop <= bound + _ROUNDING for drop, bound in drops)


def between(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """Every number `share` of the way from one classifier's weights to another's; whole numbers are the end's.

    Source: Wortsman et al. 2022 (WiSE-FT), for weights that were fine-tuned from others; it keeps what the given ones could do.
    """
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }


def best_beginning(beginnings: Sequence[Beginning], training: TrainingSpec) -> float:
    """Return the share of the class offsets that training begins with; 0 where there is nothing to choose from."""
    if not beginnings:
        return 0.0
    candidates = described([(0.0, *one) for one in beginnings], training)
    return candidates[best_candidate(candidates)].offsets


def find_candidates(
    beginnings: Sequence[Beginning],
    start: Weights,
    end: Weights,
    reached: HeldOutAccuracy,
    training: TrainingSpec,
    judge: Callable[[Weights], HeldOutAccuracy],
) -> tuple[Candidate, ...]:
    """Judge weights on the way from `start` to `end`, and list them behind those that training could begin with.

    Args:
        beginnings: the given weights first; not empty. Training began with the best of them, whose weights `start` is.
        end, reached: the best epoch's weights and their accuracy.
    """
    offsets = best_beginning(beginnings, training)
    on_the_way = [(share, offsets, judge(between(start, end, share))) for share in INTERPOLATIONS]
    return described([*((0.0, *one) for one in beginnings), *on_the_way, (1.0, offsets, reached)], training)


def described(judged: Sequence[tuple[float, float, HeldOutAccuracy]], training: TrainingSpec) -> tuple[Candidate, ...]:
    """Describe weights by their share of the way, their share of the offsets and their accuracy; the given ones come first."""
    accuracies = [accuracy for *_, accuracy in judged]
    given = accuracies[0]
    return tuple(
        Candidate(
            share=share,
            offsets=offsets,
            clean=one.clean_mean,
            mean=one.robust_mean,
            worst=one.robust_worst,
            class_drop=one.class_drop(given),
            within_bounds=within_bounds(one, given, training),
            on_front=_on_front(one, accuracies),
        )
        for share, offsets, one in judged
    )


def _on_front(one: HeldOutAccuracy, others: Sequence[HeldOutAccuracy]) -> bool:
    """Tell whether no other is as good in mean and worst class, and better in one of them."""
    own = (one.robust_mean, one.robust_worst)
    pairs = [(other.robust_mean, other.robust_worst) for other in others]
    return not any(mean >= own[0] and worst >= own[1] and (mean, worst) != own for mean, worst in pairs)


def best_candidate(candidates: Sequence[Candidate]) -> int:
    """Return the number of the one within the bounds whose worst class is most robust; 0, the given weights, if none is better.

    Of equals the one with the greater mean, then the greater share.
    """
    given = candidates[0]
    better = [n for n, one in enumerate(candidates) if one.within_bounds and one.worst > given.worst + _ROUNDING]
    return max(better, key=lambda n: (candidates[n].worst, candidates[n].mean, candidates[n].share), default=0)
