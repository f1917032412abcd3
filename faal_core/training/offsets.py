"""Class offsets: a constant a class, added to its logit, that makes the worst class more robust before anything is trained.

An offset moves every margin z_y − z_j by the constant b_y − b_j and leaves its gradient alone. So the images where each margin is
smallest in the ball stay the same, and one attack yields the robust accuracy of every class for any offsets.
"""

from functools import partial

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import select_logit
from faal_core.auditing.evaluator import freeze_weights
from faal_core.classifier import Classifier, Images, Labels
from faal_core.devices import Pieces
from faal_core.errors import ClassifierUnsuitable
from faal_core.specs import FinetuneSpec
from faal_core.specs.training import OFFSET_TARGETS
from faal_core.training.head import takes_change
from faal_core.training.offset_search import TargetedMargins, search_offsets
from faal_core.training.run import TrainingRun


def find_offsets(classifier: Classifier, rows: Tensor, run: TrainingRun) -> Tensor | None:
    """Return offsets within the bounds that make the worst cell of images like these most robust, `k`, float32, on the CPU.

    None where nothing is gained, or where the network has no bias that an offset could go into.

    Args:
        rows: rows of the training data on which offsets are sought; not those that validate.
    Raises: ClassifierUnsuitable where logits are not finite; OutOfMemory; Cancelled through the run's progress.
    Source: offsets of logits from Menon et al., ICLR 2021 (logit adjustment), who use class frequencies. This project
        derives robust accuracy under any offsets from targeted margins (docs/explanation/faal.md).
    """
    data, ranks = run.data, run.ranks
    if not ranks.broadcast(ranks.is_leader and takes_change(classifier, data, rows)):
        return None
    margins = targeted_margins(classifier, rows, run)
    class_offsets = None
    with ranks.fail_together():
        if ranks.is_leader:  # each rank would round in its own way
            cells = run.cells.take(rows)
            class_offsets = search_offsets(margins, classifier.num_classes, run.training, cells, run.progress)
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
    Cost: 1 + 4 · (steps + 1) forward and 4 · steps backward passes an image.
    """
    own_places = torch.arange(len(rows))[run.ranks.shard(len(rows))]
    run.progress.stage("class offsets", len(own_places))
    classifier.eval()
    count = min(OFFSET_TARGETS, classifier.num_classes - 1)
    values = torch.zeros(3, len(rows), count, dtype=torch.float64, device=run.device)
    pieces = Pieces(min(run.training.batch_size, classifier.images_in_cache(run.data.images.shape[1:])))
    with run.ranks.fail_together():
        own = pieces.map(partial(_piece_margins, classifier, rows, run, count), own_places)
        values[:, own_places] = torch.stack(own, 1)
        if not bool(values.isfinite().all()):
            raise ClassifierUnsuitable("The logits of some training images are NaN or infinite, before any training.")
    smallest, clean, targets = run.ranks.sum(values).cpu()
    return TargetedMargins(smallest, clean, targets.long(), run.data.labels[rows])


def _piece_margins(classifier: Classifier, rows: Tensor, run: TrainingRun, count: int, places: Tensor) -> list[Tensor]:
    """Return margins and targets of the rows at these places, `3 count` each."""
    piece = rows[places]
    x = classifier.lay_out(run.data.pixels(piece, run.device))
    margins = _attack_margins(classifier, x, run.data.labels[piece].to(run.device), run.spec, count)
    run.progress.advance(len(places))
    return list(torch.stack([margins.smallest, margins.clean, margins.targets.double()], 1))


def _attack_margins(classifier: Classifier, x: Images, y: Labels, spec: FinetuneSpec, count: int) -> TargetedMargins:
    """Return the margins of these images over the `count` likeliest other classes, float64, `n count`."""
    attack, ball = spec.training.attack, Ball(x, spec.threat)
    step_size = attack.relative_step * ball.radius
    with freeze_weights(classifier):
        with torch.no_grad():
            targets = classifier(x).scatter(1, y.unsqueeze(1), -torch.inf).topk(count).indices
        margins, clean_margins = [], []
        for target in targets.T:
            x_adv, smallest = x, torch.full(y.shape, torch.inf, device=x.device)
            for step in range(attack.steps + 1):
                x_adv = x_adv.detach().requires_grad_()
                logits = classifier(x_adv)
                margin = select_logit(logits, y) - select_logit(logits, target)
                smallest = torch.minimum(smallest, margin.detach())
                if step == 0:
                    clean_margins.append(smallest)
                if step < attack.steps:
                    (gradient,) = torch.autograd.grad(margin.sum(), x_adv)
                    x_adv = ball.step(x_adv, -gradient, step_size)
            margins.append(smallest)
    return TargetedMargins(torch.stack(margins, 1).double(), torch.stack(clean_margins, 1).double(), targets, y)
