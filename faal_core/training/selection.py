"""Which weights are kept, judged on images held out from the training data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Classifier, Labels
from faal_core.datasets.labelled_images import LabelledImages, stratified
from faal_core.errors import InvalidSpec
from faal_core.reports.documents import Candidate, EpochRow
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
    """The classifier that was chosen and the way there."""

    classifier: Classifier
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    held_out_images: int
    candidates: tuple[Candidate, ...]
    kept: Candidate | None
    offsets: Tensor | None

    @property
    def selected_share(self) -> float:
        """How far on the way to the epoch's weights those lie that were kept."""
        return self.kept.share if self.kept else 1.0

    @property
    def selected_offsets(self) -> float:
        """Which share of the class offsets they have."""
        return self.kept.offsets if self.kept else 0.0

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


def best_epoch(epochs: Sequence[EpochRow]) -> int:
    """The number of the epoch with the highest held-out mean plus worst-class robust accuracy.

    Of equals the later one; the last where nothing was held out. Differs from the published code, which chose on test images.
    """
    last = epochs[-1]
    if last.held_out_mean is None:
        return last.epoch
    return max(epochs, key=lambda row: ((row.held_out_mean or 0) + (row.held_out_worst or 0), row.epoch)).epoch


def between(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """Every number `share` of the way from one classifier's weights to another's; whole numbers are the end's.

    Source: Wortsman et al. 2022 (WiSE-FT), for weights that were fine-tuned from others; it keeps what the given ones could do.
    """
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }


def settle(
    beginnings: Sequence[Beginning],
    offsets: float,
    start: Weights,
    end: Weights,
    row: EpochRow,
    mean_may_fall: float | None,
    judge: Callable[[Weights], HeldOutAccuracy],
) -> tuple[tuple[Candidate, ...], Candidate | None]:
    """The weights that could be kept and those that are.

    Without a bound, or where nothing was held out, none is looked at; the end is kept then.

    Args:
        beginnings: what training could begin with, the given weights first; none where there are no class offsets.
        offsets: the share of the class offsets that it began with.
        start, end: the weights that it began with and those of the epoch of that row.
    """
    if mean_may_fall is None or row.held_out_mean is None:
        return (), None
    found = candidates(beginnings or [Beginning(0.0, judge(start))], offsets, start, end, row, judge)
    return found, best_candidate(found, mean_may_fall)


def best_beginning(beginnings: Sequence[Beginning], mean_may_fall: float) -> float:
    """The share of the class offsets that training begins with, by the rule that weights are kept by; 0 where there are none."""
    return best_candidate(_marked([(0.0, *one) for one in beginnings]), mean_may_fall).offsets if beginnings else 0.0


def candidates(
    beginnings: Sequence[Beginning],
    offsets: float,
    start: Weights,
    end: Weights,
    row: EpochRow,
    judge: Callable[[Weights], HeldOutAccuracy],
) -> tuple[Candidate, ...]:
    """What training could begin with and weights on the way from `start` to `end`, with what `judge` says of each.

    Args:
        offsets: the share of the class offsets that `start` has.
        row: of the epoch whose weights `end` is; it knows what would be said of them.
    """
    known = HeldOutAccuracy(row.held_out_clean or 0.0, row.held_out_mean or 0.0, row.held_out_worst or 0.0)
    on_the_way = [(share, offsets, judge(between(start, end, share))) for share in INTERPOLATIONS]
    return _marked([*((0.0, *one) for one in beginnings), *on_the_way, (1.0, offsets, known)])


def _marked(seen: Sequence[tuple[float, float, HeldOutAccuracy]]) -> tuple[Candidate, ...]:
    """Shares of the way and of the offsets, with what was said of each; those on the front are marked."""
    accuracies = [one for *_, one in seen]
    return tuple(
        Candidate(
            share=share,
            offsets=offsets,
            clean=one.clean,
            mean=one.mean,
            worst=one.worst,
            on_front=_on_front(one, accuracies),
        )
        for share, offsets, one in seen
    )


def _on_front(one: HeldOutAccuracy, seen: list[HeldOutAccuracy]) -> bool:
    """Whether no other is as good in mean and worst class, and better in one of them."""
    pairs = [(other.mean, other.worst) for other in seen]
    return not any(
        mean >= one.mean and worst >= one.worst and (mean, worst) != (one.mean, one.worst) for mean, worst in pairs
    )


def best_candidate(found: Sequence[Candidate], mean_may_fall: float) -> Candidate:
    """The one whose worst class is most robust, of those whose mean is at most that much below the given weights'.

    Of equals the one with the greater mean, then the greater share.
    """
    floor = found[0].mean - mean_may_fall - _ROUNDING
    allowed = [one for one in found if one.mean >= floor]
    return max(allowed, key=lambda one: (one.worst, one.mean, one.share))
