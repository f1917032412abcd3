"""Run the targeted fast adaptive boundary attack: walk along a linearised decision boundary towards its nearest point."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, expand, inner_product, norms
from faal_core.attacks.losses import select_logit
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.search import Search, steps_between_waits
from faal_core.attacks.targets import select_target
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import FabSpec
from faal_core.threat_model import Norm, ThreatModel

_FROM_ORIGINAL = 0.1  # α_max: the largest weight of the step that starts from the original image
_OVERSHOOT = 1.05  # η: step length in multiples of the distance to the boundary, so that the step crosses it
_BACKWARD = 0.9  # β: a perturbation that crossed the boundary is shortened to this fraction
_SHORTEST = 1e-8  # lower bound of a step's length, in the norm: keeps the weights of two zero steps defined
_TINY = 1e-12  # keeps divisors positive
_CACHED = 2**17  # numbers in a tensor, so that several such tensors stay in a core's cache


def step_to_hyperplane(x: Images, gradient: Images, value: PerImage, norm: Norm) -> Images:
    """Return the step δ of least norm with ⟨gradient, δ⟩ = value and x + δ in [0, 1].

    Where no such step exists, the step goes as far towards the hyperplane as the pixels allow. Every pixel moves at its
    own speed until the box stops it: |δ_i| = min(λ, room) for L∞, |gradient_i| · min(λ, room / |gradient_i|) for L2. The
    change of the linear function is concave and piecewise linear in λ. Newton's method from 0 therefore rises to the root
    in finitely many steps, without sorting pixels.

    Args:
        value: the change of the linear function at each image, of either sign.
    Source: the projections of Croce and Hein 2020 (FAB), section 2.2.
    Differs: computed by Newton's method instead of a sort.
    """
    count = max(_CACHED // x[0].numel(), 1) if x.is_cpu else len(x)
    parts = zip(x.split(count), gradient.split(count), value.split(count), strict=True)
    return torch.cat([_step(*part, norm) for part in parts])


def _step(x: Images, gradient: Images, value: PerImage, norm: Norm) -> Images:
    """Return the steps of a part of the batch that is small enough to stay in the cache."""
    velocity = gradient * expand(value.sign())
    sign = velocity.sign() if norm is Norm.L2 else velocity.sign_()
    room = (0.5 - x).mul_(sign).add_(0.5)
    slope = gradient.abs()
    if norm is Norm.L2:
        room.div_(slope.clamp_min(_TINY))
        slope.square_()
    full = room * slope
    shortfall = value.abs() - full.sum((1, 2, 3))
    unclipped, product = torch.empty_like(room), torch.empty_like(room)

    def sum_unclipped(values: Tensor) -> PerImage:
        return torch.mul(values, unclipped, out=product).sum((1, 2, 3))

    torch.gt(room, 0, out=unclipped)
    slope_before = sum_unclipped(slope)
    length = value.abs() / slope_before.clamp_min(_TINY)
    wait = steps_between_waits(x.device)
    for iteration in range(x[0].numel()):
        torch.gt(room, expand(length), out=unclipped)
        slope_left = sum_unclipped(slope)
        if iteration % wait == wait - 1 and not bool((slope_left < slope_before).any()):
            break  # the box stops no further pixel
        length = torch.maximum(length, (shortfall + sum_unclipped(full)) / slope_left.clamp_min(_TINY))
        slope_before = slope_left
    return torch.minimum(room, expand(length), out=room).mul_(velocity)


def _power_of_two(gradient: Images) -> PerImage:
    """Return per image the power of two that brings its largest slope near 1.

    Scaling by it rounds nothing, so that steps can be computed for logits of any magnitude.
    """
    exponent = torch.frexp(gradient.abs().amax((1, 2, 3))).exponent
    return torch.exp2(-exponent.clamp(-120, 120).float())


@dataclass(slots=True)
class _Walk:
    """Holds the images still in the search: their current points and the nearest misclassified images so far."""

    x: Images
    y: Labels
    target: Labels
    x_adv: Images
    nearest: Images
    distance: PerImage

    def subset(self, indices: Tensor) -> "_Walk":
        """Return the state of the images at `indices` alone."""
        return _Walk(*(getattr(self, field.name)[indices] for field in fields(self)))

    def move(self, classifier: Classifier, norm: Norm, search: Search) -> None:
        """Take one step to the linearised boundary, biased towards the original images."""
        x_adv = self.x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        lead = select_logit(logits, self.target) - select_logit(logits, self.y)
        gradient = search.compute_gradient(lead, x_adv)
        x_adv, lead = x_adv.detach(), lead.detach()
        scale = _power_of_two(gradient)
        gradient, lead = gradient * expand(scale), lead * scale
        step = step_to_hyperplane(x_adv, gradient, -lead, norm)
        back = step_to_hyperplane(self.x, gradient, inner_product(gradient, x_adv - self.x) - lead, norm)
        near, far = norms(step, norm).clamp_min(_SHORTEST), norms(back, norm).clamp_min(_SHORTEST)
        weight = expand((near / (near + far)).clamp_max(_FROM_ORIGINAL))
        from_current, from_original = x_adv.add(step, alpha=_OVERSHOOT), self.x.add(back, alpha=_OVERSHOOT)
        self.x_adv = from_current.lerp_(from_original, weight).clamp_(0, 1)

    def record(self, misclassified: Tensor, norm: Norm) -> None:
        """Store misclassified images that are nearer than earlier ones, and draw all misclassified ones back.

        The perturbation of a misclassified image is shortened to the fraction β.
        """
        distance = norms(self.x_adv - self.x, norm)
        nearer = misclassified & (distance < self.distance)
        self.nearest.lerp_(self.x_adv, expand(nearer.float()))
        self.distance = torch.where(nearer, distance, self.distance)
        self.x_adv = torch.lerp(self.x, self.x_adv, expand(1 - (1 - _BACKWARD) * misclassified.float()))


def fab(
    classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, iterations: int, target: Labels, start: Images
) -> Images:
    """Return each image where it was first misclassified within the radius, or the nearest misclassified image outside.

    Cost: 2 · `iterations` forward and `iterations` backward passes of the images still in the search.
    Source: Croce and Hein 2020 (FAB, arXiv 1907.02044), algorithm 1, in the targeted form that AutoAttack uses.
    Differs: an image leaves the search as soon as it is misclassified within the radius; its smallest perturbation is not
        sought.
    """
    infinity = torch.full((len(x),), torch.inf, device=x.device)
    walk, search = _Walk(x, y, target, start, start.clone(), infinity), Search(start)
    for _ in range(iterations):
        walk.move(classifier, threat.norm, search)
        with torch.no_grad():
            misclassified = classifier(walk.x_adv).argmax(1) != walk.y
        walk.record(misclassified, threat.norm)
        places = search.leave(walk.nearest, walk.distance <= threat.epsilon)
        if places is not None:
            walk = walk.subset(places)
        if not len(walk.y):
            break
    return search.finish(walk.nearest)


class Fab:
    """Runs FAB once against each of the nearest classes, from the image itself; restarts begin half a radius away.

    Args:
        num_classes: number of classes; limits the targets to `num_classes` − 1.
    """

    def __init__(self, spec: FabSpec, num_classes: int) -> None:
        self._spec = spec
        self._targets = min(spec.targets, num_classes - 1)

    @property
    def runs(self) -> int:
        """Return the number of runs: all restarts against the first target, then against the next."""
        return self._targets * self._spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """Return the images after run `number`."""
        rank, restart = divmod(number, self._spec.restarts)
        start = Ball(x, threat).draw_edge_point(random, 0.5) if restart else x
        return fab(classifier, x, y, threat, self._spec.iterations, select_target(classifier, x, y, rank), start)
