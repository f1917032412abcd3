"""Class offsets: a constant a class, added to its logit, that makes the worst class more robust before anything is trained.

An offset moves every margin z_y − z_j by the constant b_y − b_j and leaves its gradient alone. So the images where each margin is
smallest in the ball stay the same, and one attack yields the robust accuracy of every class for any offsets.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import select_logit
from faal_core.auditing.evaluator import freeze_weights
from faal_core.classifier import Classifier, Images, Labels
from faal_core.devices import Pieces
from faal_core.specs import FinetuneSpec
from faal_core.specs.training import OFFSET_TARGETS
from faal_core.training.cells import Cells
from faal_core.training.divergence import require_finite
from faal_core.training.head import takes_change
from faal_core.training.run import TrainingRun

_STRENGTHS = [0.02 * 1.2**i for i in range(26)]  # λ: weight of the worst classes beside the mean
_STEPS = 100  # of Adam, for each strength
_FIRST_SOFTNESS, _LAST_SOFTNESS = 1.0, 0.03  # of the count of robust images, in typical margins
_WORST_SOFTNESS = 0.03  # of the minimum over classes, as a fraction of images


class TargetedMargins(NamedTuple):
    """The smallest z_y − z_j in the ball of n images for m other classes j each, in logits, and these classes, `n m`."""

    margins: Tensor
    targets: Tensor


def find_offsets(classifier: Classifier, rows: Tensor, run: TrainingRun) -> Tensor | None:
    """Return offsets that make the worst cell of these rows most robust at little cost to their mean, `k`, float32, on the CPU.

    None where nothing is gained, or where the network has no bias that an offset could go into. The mean may fall by half of
    `max_robust_drop`: offsets cost other images a little more than those they were found on.

    Args:
        rows: rows of the training data; not those that validate.
    Raises: TrainingDiverged where logits are not finite; OutOfMemory; Cancelled through the run's progress.
    Source: offsets of logits from Menon et al., ICLR 2021 (logit adjustment), who use class frequencies. This project
        derives robust accuracy under any offsets from targeted margins (docs/explanation/faal.md).
    """
    data, ranks = run.data, run.ranks
    if not ranks.broadcast(ranks.is_leader and takes_change(classifier, data, rows)):
        return None
    margins = targeted_margins(classifier, rows, run)
    bound = run.training.max_robust_drop
    max_drop = 1.0 if bound is None else bound / 2
    class_offsets = None
    if ranks.is_leader:  # each rank would round in its own way
        cells = run.cells.take(rows)
        class_offsets = search_offsets(margins, data.labels[rows], classifier.num_classes, max_drop, cells)
    if not ranks.broadcast(class_offsets is not None):
        return None
    shared = torch.zeros(classifier.num_classes, device=run.device)
    if class_offsets is not None:
        shared += class_offsets.to(shared)
    return ranks.sum(shared).cpu()


def targeted_margins(classifier: Classifier, rows: Tensor, run: TrainingRun) -> TargetedMargins:
    """Return the margins over the four likeliest other classes of each row, in eval mode, on the CPU.

    PGD goes down each margin from the image itself, with the steps of the training's attack; the smallest margin on the way
    counts. Each rank attacks its shard of the rows.

    Raises: as `find_offsets`.
    Cost: 4 · (steps + 1) forward and backward passes an image.
    """
    own_places = torch.arange(len(rows))[run.ranks.shard(len(rows))]
    run.progress.stage("class offsets", len(own_places))
    classifier.eval()
    count = min(OFFSET_TARGETS, classifier.num_classes - 1)
    values = torch.zeros(2, len(rows), count, dtype=torch.float64, device=run.device)
    pieces = Pieces(min(run.training.batch_size, classifier.images_in_cache(run.data.images.shape[1:])))
    with run.ranks.fail_together():
        own = pieces.map(partial(_piece_margins, classifier, rows, run, count), own_places)
        values[:, own_places] = torch.stack(own, 1)
        require_finite(values, "network's logits")
    margins, targets = run.ranks.sum(values).cpu()
    return TargetedMargins(margins, targets.long())


def _piece_margins(classifier: Classifier, rows: Tensor, run: TrainingRun, count: int, places: Tensor) -> list[Tensor]:
    """Return margins and targets of the rows at these places, `2 count` each."""
    piece = rows[places]
    x = classifier.lay_out(run.data.pixels(piece, run.device))
    smallest = _smallest_margins(classifier, x, run.data.labels[piece].to(run.device), run.spec, count)
    run.progress.advance(len(places))
    return list(torch.stack([smallest.margins, smallest.targets.double()], 1))


def _smallest_margins(classifier: Classifier, x: Images, y: Labels, spec: FinetuneSpec, count: int) -> TargetedMargins:
    """Return the margins of these images over the `count` likeliest other classes, float64, `n count`."""
    attack, ball = spec.training.attack, Ball(x, spec.threat)
    step_size = attack.relative_step * ball.radius
    with freeze_weights(classifier):
        with torch.no_grad():
            targets = classifier(x).scatter(1, y.unsqueeze(1), -torch.inf).topk(count).indices
        margins = []
        for target in targets.T:
            x_adv, smallest = x, torch.full(y.shape, torch.inf, device=x.device)
            for step in range(attack.steps + 1):
                x_adv = x_adv.detach().requires_grad_()
                logits = classifier(x_adv)
                margin = select_logit(logits, y) - select_logit(logits, target)
                smallest = torch.minimum(smallest, margin.detach())
                if step < attack.steps:
                    (gradient,) = torch.autograd.grad(margin.sum(), x_adv)
                    x_adv = ball.step(x_adv, -gradient, step_size)
            margins.append(smallest)
    return TargetedMargins(torch.stack(margins, 1).double(), targets)


def robust_rates(margins: TargetedMargins, y: Labels, class_offsets: Tensor, cells: Cells | None = None) -> Tensor:
    """Return the robust accuracy of each cell, in [0, 1], that the margins yield under these offsets, `k`.

    Args:
        cells: of the margins' images; the classes when absent.
    """
    cells = cells or Cells(y, len(class_offsets))
    return _cell_means((_smallest_with(margins, y, class_offsets) > 0).double(), cells)


def search_offsets(
    margins: TargetedMargins, y: Labels, num_classes: int, max_drop: float, cells: Cells | None = None
) -> Tensor | None:
    """Return the offsets, `k`, of mean 0, whose worst cell is most robust; None where no worst cell gets better.

    The search maximises mean + λ · soft minimum of the cells' accuracies for many λ. It counts images ever less softly.

    Args:
        y: labels of the margins' images, `n`.
        max_drop: bound on the fall of the cells' mean robust accuracy, in [0, 1].
        cells: of the margins' images; the classes when absent.
    """
    cells = cells or Cells(y, num_classes)
    typical_margin = float(margins.margins.abs().median())
    zero = torch.zeros(num_classes, dtype=torch.float64)
    rates = robust_rates(margins, y, zero, cells)
    least_mean, best_worst, best_offsets = float(rates.mean()) - max_drop, float(rates.min()), None
    for strength in _STRENGTHS:
        offsets = zero.clone().requires_grad_()
        optimizer = torch.optim.Adam([offsets], lr=0.03 * typical_margin)
        for step in range(_STEPS):
            softness = typical_margin * _FIRST_SOFTNESS * (_LAST_SOFTNESS / _FIRST_SOFTNESS) ** (step / _STEPS)
            soft_rates = _cell_means(torch.sigmoid(_smallest_with(margins, y, offsets) / softness), cells)
            worst = -_WORST_SOFTNESS * torch.logsumexp(-soft_rates / _WORST_SOFTNESS, 0)
            optimizer.zero_grad()
            (-(soft_rates.mean() + strength * worst)).backward()
            optimizer.step()
        centred = offsets.detach() - offsets.detach().mean()
        rates = robust_rates(margins, y, centred, cells)
        if float(rates.mean()) >= least_mean and float(rates.min()) > best_worst:
            best_worst, best_offsets = float(rates.min()), centred.float()
    return best_offsets


def _smallest_with(margins: TargetedMargins, y: Labels, class_offsets: Tensor) -> Tensor:
    """Return the smallest margin of each image under these offsets, `n`."""
    return (margins.margins + class_offsets[y].unsqueeze(1) - class_offsets[margins.targets]).amin(1)


def _cell_means(values: Tensor, cells: Cells) -> Tensor:
    counts = torch.bincount(cells.numbers, minlength=cells.count).clamp_min(1)
    return torch.zeros(cells.count, dtype=values.dtype).index_add(0, cells.numbers, values) / counts
