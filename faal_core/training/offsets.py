"""Class offsets: a constant a class, added to its logit, that makes the worst class more robust before anything is trained.

An offset moves every margin z_y − z_j by the constant b_y − b_j and leaves its gradient alone. So the images where each margin is
smallest in the ball stay the same, and one attack tells the robust accuracy of every class for any offsets.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faal_core.attacks.ball import Ball, direction
from faal_core.audit.evaluator import frozen
from faal_core.classifier import Classifier, Images, Labels
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.device_memory import Pieces
from faal_core.progress import Progress
from faal_core.specs import FinetuneSpec
from faal_core.specs.training import OFFSET_TARGETS
from faal_core.training.ranks import ALONE, Ranks
from faal_core.training.step import diverged

_STRENGTHS = [0.02 * 1.2**i for i in range(26)]  # λ: how much the worst classes count beside the mean
_STEPS = 100  # of Adam for each of them
_SOFTNESS = (1.0, 0.03)  # of the count of robust images at the first and the last step, in typical margins
_WORST = 0.03  # of the minimum over classes, as a share of images


class TargetedMargins(NamedTuple):
    """How small z_y − z_j was made in the ball of n images for m other classes j each, in logits, and these classes, `n m`."""

    margins: Tensor
    targets: Tensor


def output_bias(classifier: Classifier) -> nn.Parameter | None:
    """The parameter that is added to the logits as it is: the bias of the last linear layer; None where there is no such."""
    layers = [module for module in classifier.backbone.modules() if isinstance(module, nn.Linear)]
    if not layers or layers[-1].bias is None or layers[-1].out_features != classifier.num_classes:
        return None
    return layers[-1].bias


def with_offsets(classifier: Classifier, offsets: Tensor | None, share: float = 1.0) -> Classifier:
    """The classifier itself, its logits moved by that share of the offsets, `k`; as it was where there are none."""
    bias = output_bias(classifier)
    if offsets is not None and bias is not None:
        with torch.no_grad():
            bias.add_(share * offsets.to(bias))
    return classifier


def find_offsets(
    classifier: Classifier,
    data: LabelledImages,
    rows: Tensor,
    spec: FinetuneSpec,
    progress: Progress,
    ranks: Ranks = ALONE,
) -> Tensor | None:
    """Offsets that make the worst class of those images most robust and cost little of their mean, `k`, float32, on the CPU.

    None where nothing is gained, or where the network has no bias that an offset could go into. The mean may fall by half of
    `max_robust_drop`: what is found on some images costs others a little more.

    Args:
        rows: which images; not those that weights are chosen on.
    Raises: TrainingDiverged where logits are not finite; OutOfMemory; Cancelled through `progress`.
    Source: offsets of logits from Menon et al., ICLR 2021 (logit adjustment), who take class frequencies; that robust accuracy
        under any offsets follows from targeted margins is ours (docs/method.md).
    """
    if not ranks.told(ranks.leads and _moves_the_logits(classifier, data, rows)):
        return None
    found = targeted_margins(classifier, data, rows, spec, progress, ranks)
    bound = spec.training.max_robust_drop
    may_fall = 1.0 if bound is None else bound / 2
    offsets = even_offsets(found, data.labels[rows], classifier.num_classes, may_fall) if ranks.leads else None
    told = torch.zeros(classifier.num_classes + 1, device=classifier.device)  # the last says whether there are any
    if offsets is not None:
        told[:-1], told[-1] = offsets, 1
    ranks.sum(told)  # each process would round its own way
    return told[:-1].cpu() if told[-1] else None


def targeted_margins(
    classifier: Classifier,
    data: LabelledImages,
    rows: Tensor,
    spec: FinetuneSpec,
    progress: Progress,
    ranks: Ranks = ALONE,
) -> TargetedMargins:
    """The margins over the four likeliest other classes of each image, in eval mode, on the CPU; each process does its share.

    PGD from the image itself, with the steps of the training's attack, down each margin; the smallest on the way counts.

    Raises: as `find_offsets`.
    Cost: 4 · (steps + 1) forward and backward passes an image.
    """
    progress.stage("class offsets", len(rows[ranks.share(len(rows))]))
    classifier.eval()
    targets = min(OFFSET_TARGETS, classifier.num_classes - 1)
    values = torch.zeros(2, len(rows), targets, dtype=torch.float64, device=classifier.device)

    def look(part: Tensor) -> list[Tensor]:
        x = classifier.lay_out(data.pixels(rows[part], classifier.device))
        found = _smallest_margins(classifier, x, data.labels[rows[part]].to(classifier.device), spec, targets)
        progress.advance(len(part))
        return list(torch.stack([value.double() for value in found], 1))

    own = torch.arange(len(rows))[ranks.share(len(rows))]
    pieces = Pieces(min(spec.training.batch_size, classifier.images_in_cache(data.images.shape[1:])))
    with ranks.agreed():
        values[:, own] = torch.stack(pieces.each(look, own), 1)
        if not bool(values.isfinite().all()):
            raise diverged("network's logits became NaN or infinite")
    ranks.sum(values)
    margins, chosen = values.cpu()
    return TargetedMargins(margins, chosen.long())


def _smallest_margins(
    classifier: Classifier, x: Images, y: Labels, spec: FinetuneSpec, count: int
) -> tuple[Tensor, Tensor]:
    """The margins of those images over that many other classes, `n count`, and these classes."""
    attack, ball = spec.training.attack, Ball(x, spec.threat)
    step = attack.relative_step * ball.radius
    with frozen(classifier):
        with torch.no_grad():
            others = classifier(x).scatter(1, y.unsqueeze(1), -torch.inf).topk(count).indices
        margins = []
        for target in others.T:
            x_adv, smallest = x, torch.full(y.shape, torch.inf, device=x.device)
            for number in range(attack.steps + 1):
                x_adv = x_adv.detach().requires_grad_()
                logits = classifier(x_adv)
                lead = (logits.gather(1, y.unsqueeze(1)) - logits.gather(1, target.unsqueeze(1))).squeeze(1)
                smallest = torch.minimum(smallest, lead.detach())
                if number < attack.steps:
                    (gradient,) = torch.autograd.grad(lead.sum(), x_adv)
                    x_adv = ball.project(x_adv.detach() - step * direction(gradient, ball.norm))
            margins.append(smallest)
    return torch.stack(margins, 1), others


def robust_rates(found: TargetedMargins, y: Labels, offsets: Tensor) -> Tensor:
    """The robust accuracy of each class, in [0, 1], under those offsets, `k` both, as far as the margins tell."""
    return _class_means((_leads(found, y, offsets) > 0).double(), y, len(offsets))


def even_offsets(found: TargetedMargins, y: Labels, num_classes: int, may_fall: float) -> Tensor | None:
    """Of many offsets, `k`, of mean 0, those whose worst class is most robust; None where no worst class gets better.

    They come from maximising mean + λ · soft minimum of the classes' accuracies for many λ. Images are counted ever less softly
    on the way.

    Args:
        y: `n`, of the images whose margins these are.
        may_fall: by how much the mean of the classes' robust accuracies may fall, in [0, 1].
    """
    typical, (first, last) = float(found.margins.abs().median()), _SOFTNESS
    nothing = torch.zeros(num_classes, dtype=torch.float64)
    rates = robust_rates(found, y, nothing)
    least, best, kept = float(rates.mean()) - may_fall, float(rates.min()), None
    for strength in _STRENGTHS:
        offsets = nothing.clone().requires_grad_()
        optimizer = torch.optim.Adam([offsets], lr=0.03 * typical)
        for step in range(_STEPS):
            softness = typical * first * (last / first) ** (step / _STEPS)
            soft = _class_means(torch.sigmoid(_leads(found, y, offsets) / softness), y, num_classes)
            worst = -_WORST * torch.logsumexp(-soft / _WORST, 0)
            optimizer.zero_grad()
            (-(soft.mean() + strength * worst)).backward()
            optimizer.step()
        now = offsets.detach() - offsets.detach().mean()
        rates = robust_rates(found, y, now)
        if float(rates.mean()) >= least and float(rates.min()) > best:
            best, kept = float(rates.min()), now.float()
    return kept


def _leads(found: TargetedMargins, y: Labels, offsets: Tensor) -> Tensor:
    """The smallest margin of each image under those offsets, `n`."""
    return (found.margins + offsets[y].unsqueeze(1) - offsets[found.targets]).amin(1)


def _class_means(values: Tensor, y: Labels, num_classes: int) -> Tensor:
    counts = torch.bincount(y, minlength=num_classes).clamp_min(1)
    return torch.zeros(num_classes, dtype=values.dtype).index_add(0, y, values) / counts


def _moves_the_logits(classifier: Classifier, data: LabelledImages, rows: Tensor) -> bool:
    """Whether there is such a bias and nothing comes after it, tried on a few images."""
    if output_bias(classifier) is None:
        return False
    tried = copy.deepcopy(classifier).eval()
    x = tried.lay_out(data.pixels(rows[:2], tried.device))
    offsets = torch.linspace(-1, 1, tried.num_classes)
    with torch.no_grad():
        before = tried(x).cpu()
        after = with_offsets(tried, offsets)(x).cpu()
    return torch.allclose(after, before + offsets, atol=1e-3, rtol=1e-3)
