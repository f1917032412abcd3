"""The search for class offsets on margins: many are found on some images and judged on others; the best within bounds wins."""

from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Labels
from faal_core.progress import Progress
from faal_core.specs import TrainingSpec
from faal_core.specs.training import CHANGE_SCALES
from faal_core.training.cells import Cells
from faal_core.training.selection import within_bounds
from faal_core.training.validation import ValidationAccuracy

_FOLDS = 5
_STRENGTHS = [0.02 * 1.2**i for i in range(26)]  # λ: weight of the worst cell beside the mean
_STEPS = 100  # of Adam, for each strength
_FIRST_SOFTNESS, _LAST_SOFTNESS = 1.0, 0.03  # of the count of robust images, in typical margins
_WORST_SOFTNESS = 0.03  # of the minimum over cells, as a fraction of images
_MOST_VALUES = 2**23  # at a time


class TargetedMargins(NamedTuple):
    """Margins z_y − z_j of n images over m other classes j each, in logits.

    Args:
        smallest: in the ball, `n m`, float64.
        clean: of the images themselves, `n m`, float64.
        targets: the other classes, `n m`.
        y: labels, `n`.
    """

    smallest: Tensor
    clean: Tensor
    targets: Tensor
    y: Labels

    def take(self, rows: Tensor) -> "TargetedMargins":
        """Return the margins of these images."""
        return TargetedMargins(*(values[rows] for values in self))

    def with_offsets(self, margins: Tensor, class_offsets: Tensor) -> Tensor:
        """Return the least of these margins, `s n`, under each of s class offsets, `s k`."""
        moves = class_offsets[:, self.y].unsqueeze(2) - class_offsets[:, self.targets]
        return (margins + moves).amin(2)


def search_offsets(
    margins: TargetedMargins, num_classes: int, training: TrainingSpec, cells: Cells, progress: Progress
) -> Tensor | None:
    """Return the class offsets, `k`, float32, of mean 0, whose worst cell is most robust within bounds; None where none helps.

    The images are cut into five folds. Offsets are found on four of them with many weights λ of the worst cell beside the mean,
    and measured on the fifth at each scale. The λ and the scale are chosen that are best over all images, each measured with
    offsets that were found without it. The result is the mean of the five offsets for these. So no offsets are chosen that fit
    single images. But a cell that is weak in this sample by chance is weak in all folds: only other images can show that the
    worst cell gains, and a gain within the standard error of its rate counts as none here.

    Args:
        training: its bounds.
        cells: of the margins' images.
        progress: counts the folds.
    Raises: Cancelled through `progress`.
    Source: cross-fitting, Chernozhukov et al., The Econometrics Journal 2018.
    """
    folds = [fold for fold in _make_folds(cells) if len(fold)]
    if len(folds) == 1:
        return None
    progress.stage("search for class offsets", len(folds))
    offsets_by_fold = []
    for fold in folds:
        offsets_by_fold.append(_search_without(fold, margins, num_classes, cells))
        progress.advance()
    offsets = torch.stack(offsets_by_fold)
    clean, robust = (
        torch.cat(
            [_are_positive(margins.take(fold), values[fold], one) for fold, one in zip(folds, offsets, strict=True)], 1
        )
        for values in (margins.clean, margins.smallest)
    )
    rows = torch.cat(folds)
    ordered_cells = cells.take(rows)
    (original,) = predict_accuracies(
        margins.take(rows), torch.zeros(1, num_classes, dtype=torch.float64), ordered_cells
    )
    accuracies = _measure(clean, robust, ordered_cells)
    least = original.robust_worst + original.worst_standard_error
    better = [
        number
        for number, accuracy in enumerate(accuracies)
        if accuracy.robust_worst > least and within_bounds(accuracy, original, training)
    ]
    if not better:
        return None
    best = max(better, key=lambda number: (accuracies[number].robust_worst, accuracies[number].robust_mean))
    return offsets.mean(0)[best].float()


def predict_accuracies(margins: TargetedMargins, class_offsets: Tensor, cells: Cells) -> list[ValidationAccuracy]:
    """Return the accuracies that the margins yield under each of s class offsets, `s k`, by cell.

    They are exact as far as no class wins but the m of each image's margins.
    """
    clean, robust = (_are_positive(margins, values, class_offsets) for values in (margins.clean, margins.smallest))
    return _measure(clean, robust, cells)


def _make_folds(cells: Cells) -> list[Tensor]:
    """Return the rows of each fold, which has the same part of every cell, to one image."""
    order = torch.argsort(cells.numbers, stable=True)
    return [order[number::_FOLDS] for number in range(_FOLDS)]


def _search_without(fold: Tensor, margins: TargetedMargins, num_classes: int, cells: Cells) -> Tensor:
    """Return the offsets, `s k`, that are found without this fold, at every scale."""
    is_other = torch.ones(len(margins.y), dtype=torch.bool)
    is_other[fold] = False
    path = _search_path(margins.take(is_other), num_classes, cells.take(is_other))
    return torch.cat([scale * path for scale in CHANGE_SCALES])


def _search_path(margins: TargetedMargins, num_classes: int, cells: Cells) -> Tensor:
    """Return offsets of mean 0, `s k`, that maximise mean + λ · soft minimum of the cells' accuracies, for each of s strengths λ.

    Images are counted ever less softly. Cells without images do not count.
    """
    strengths = torch.tensor(_STRENGTHS, dtype=torch.float64)
    pieces = strengths.split(max(1, _MOST_VALUES // margins.smallest.numel()))
    return torch.cat([_ascend(margins, num_classes, cells, piece) for piece in pieces])


def _ascend(margins: TargetedMargins, num_classes: int, cells: Cells, strengths: Tensor) -> Tensor:
    typical_margin = float(margins.smallest.abs().median())
    offsets = torch.zeros(len(strengths), num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([offsets], lr=0.03 * typical_margin)
    has_images = torch.bincount(cells.numbers, minlength=cells.count) > 0
    for step in range(_STEPS):
        softness = typical_margin * _FIRST_SOFTNESS * (_LAST_SOFTNESS / _FIRST_SOFTNESS) ** (step / _STEPS)
        are_robust = torch.sigmoid(margins.with_offsets(margins.smallest, offsets) / softness)
        rates = _cell_means(are_robust, cells)[:, has_images]
        worst = -_WORST_SOFTNESS * torch.logsumexp(-rates / _WORST_SOFTNESS, 1)
        optimizer.zero_grad()
        (-(rates.mean(1) + strengths * worst)).sum().backward()
        optimizer.step()
    return offsets.detach() - offsets.detach().mean(1, keepdim=True)


def _are_positive(margins: TargetedMargins, values: Tensor, class_offsets: Tensor) -> Tensor:
    """Return which images have only positive margins, `s n`, under each of s class offsets, `s k`."""
    pieces = class_offsets.split(max(1, _MOST_VALUES // max(values.numel(), 1)))
    return torch.cat([margins.with_offsets(values, piece) > 0 for piece in pieces])


def _measure(clean: Tensor, robust: Tensor, cells: Cells) -> list[ValidationAccuracy]:
    """Return the accuracies that these flags yield, `s n` both."""
    images = tuple(torch.bincount(cells.numbers, minlength=cells.count).tolist())
    rates = (_cell_means(flags.double(), cells).tolist() for flags in (clean, robust))
    return [
        ValidationAccuracy(tuple(clean_rates), tuple(robust_rates), images, clean_correct, robust_correct)
        for clean_rates, robust_rates, clean_correct, robust_correct in zip(*rates, clean, robust, strict=True)
    ]


def _cell_means(values: Tensor, cells: Cells) -> Tensor:
    """Return the mean of each cell, `s c`, of values of images, `s n`; 0 where a cell has none."""
    counts = torch.bincount(cells.numbers, minlength=cells.count).clamp_min(1)
    return torch.zeros(len(values), cells.count, dtype=values.dtype).index_add(1, cells.numbers, values) / counts
