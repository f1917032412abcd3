"""Choose the classes that a targeted attack aims at."""

import hashlib

import torch
from torch import Tensor

from faal_core.attacks.losses import compute_gradient, select_logit
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs.attacks import MALT_CANDIDATES
from faal_core.threat_model import Norm

_TINY = 1e-12  # keeps divisors positive


@torch.no_grad()
def select_target(classifier: Classifier, x: Images, y: Labels, rank: int) -> Labels:
    """Return the class with the `rank`-th largest logit (from 0) besides the label, for each clean image.

    Source: AutoAttack's order of targets, nearest first (Croce and Hein 2020, section 5).
    """
    return order_by_logits(classifier(x), y)[:, rank]


def order_by_logits(logits: Tensor, y: Labels) -> Tensor:
    """Return all classes of each image, those with the largest logits first and the label last, `n k`."""
    return logits.scatter(1, y.unsqueeze(1), -torch.inf).argsort(dim=1, descending=True, stable=True)


def order_by_distance(classifier: Classifier, x: Images, y: Labels, norm: Norm, *, count: bool) -> Tensor:
    """Return the likeliest classes besides the label, those with the nearest linearised boundary first, `n candidates`.

    The distance to the boundary with class t is (z_y − z_t) / ‖∇(z_y − z_t)‖, in the dual norm of the threat model.

    Args:
        count: whether hooks of the classifier, which count its passes, see these.
    Cost: one forward pass, and a backward pass for each candidate.
    Source: MALT (Melamed et al. 2024, arXiv 2407.02240), section 4. Differs: the gradients' norm is dual to that of the
        threat model.
    """
    x = x.detach().requires_grad_()
    logits = classifier(x) if count else classifier.forward(x)
    candidates = order_by_logits(logits.detach(), y)[:, : min(MALT_CANDIDATES, logits.shape[1] - 1)]
    distances = []
    for target in candidates.unbind(1):
        lead = select_logit(logits, y) - select_logit(logits, target)
        slope = compute_gradient(lead, x, keep_graph=True)
        size = slope.abs().sum((1, 2, 3)) if norm is Norm.LINF else torch.linalg.vector_norm(slope, dim=(1, 2, 3))
        distances.append(lead.detach() / size.clamp_min(_TINY))
    nearest_first = torch.stack(distances, 1).argsort(dim=1, stable=True)
    return candidates.gather(1, nearest_first)


class NearestTargets:
    """Selects targets in MALT's order, which it computes once for each image and keeps for later runs.

    Args:
        targets: number of targets to keep for each image.
    """

    def __init__(self, targets: int) -> None:
        self._targets = targets
        self._orders: dict[bytes, Tensor] = {}

    def select(self, classifier: Classifier, x: Images, y: Labels, norm: Norm, rank: int) -> Labels:
        """Return the target of rank `rank` (from 0) for each clean image.

        The passes count for the first target alone. A process that computes only later runs computes the order again, and the
        counts of an audit must not depend on that.
        """
        keys = [hashlib.sha256(image.tobytes()).digest() for image in x.detach().contiguous().cpu().numpy()]
        missing = [place for place, key in enumerate(keys) if rank == 0 or key not in self._orders]
        if missing:
            rows = torch.tensor(missing, device=x.device)
            orders = order_by_distance(classifier, x[rows], y[rows], norm, count=rank == 0)[:, : self._targets].cpu()
            self._orders |= dict(zip((keys[place] for place in missing), orders, strict=True))
        return torch.stack([self._orders[key][rank] for key in keys]).to(x.device)
