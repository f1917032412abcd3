"""Fast adaptive boundary attack, targeted: walks along a linearised decision boundary towards the nearest point of it."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, expand, inner, norms
from faal_core.attacks.losses import at, gradient_of
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.targets import runner_up
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import FabSpec
from faal_core.threat_model import Norm, ThreatModel

_FROM_ORIGINAL = 0.1  # α_max: at most this share of a step starts from the original image
_OVERSHOOT = 1.05  # η
_BACKWARD = 0.9  # β: what is left of a perturbation that crossed the boundary
_SHORTEST = 1e-8  # a step of no length counts as this long
_ROUNDING = 1e-6
_TINY = 1e-12
_CACHED = 2**17  # numbers a tensor may have for several to stay in a core's cache


def step_to_hyperplane(x: Images, gradient: Images, value: PerImage, norm: Norm) -> Images:
    """The step δ of least norm with ⟨gradient, δ⟩ = value and x + δ in [0, 1]; as far towards it as the pixels allow.

    Args:
        value: by how much the linear function is to change at each image, of either sign.
    Every pixel moves at its own speed until the box stops it: |δ_i| = min(λ, room) for L∞, |gradient_i| · min(λ, room /
    |gradient_i|) for L2. What is gained is concave and piecewise linear in λ, so Newton's method from 0 rises to the root in
    finitely many steps; no pixels are sorted.
    Source: the projections of Croce and Hein 2020 (FAB), section 2.2, by another algorithm.
    """
    count = max(_CACHED // x[0].numel(), 1) if x.is_cpu else len(x)
    parts = zip(x.split(count), gradient.split(count), value.split(count), strict=True)
    return torch.cat([_step(*part, norm) for part in parts])


def _step(x: Images, gradient: Images, value: PerImage, norm: Norm) -> Images:
    """The step for images few enough to stay in the cache."""
    way = (gradient * expand(value.sign())).sign()
    room = 0.5 + way * (0.5 - x)
    speed = gradient.abs() if norm is Norm.L2 else way.abs()
    slope = gradient.abs() * speed
    room = room / speed.clamp_min(_TINY)
    full = room * slope
    lacking = value.abs() - full.sum((1, 2, 3))
    length, free = torch.zeros_like(value), torch.empty_like(room)
    for _ in range(x[0].numel()):
        torch.gt(room, expand(length), out=free)
        rising = inner(slope, free)
        further = (lacking + inner(full, free)) / rising.clamp_min(_TINY)
        if not bool((further > length * (1 + _ROUNDING)).logical_and(rising > 0).any()):
            length = torch.maximum(length, further)
            break
        length = torch.maximum(length, further)
    return way * speed * torch.minimum(room, expand(length))


def _power_of_two(gradient: Images) -> PerImage:
    """What brings each image's largest slope near 1 without a rounding, so that no logits are too small to step by."""
    exponent = torch.frexp(gradient.abs().amax((1, 2, 3))).exponent
    return torch.exp2(-exponent.clamp(-120, 120).float())


@dataclass(slots=True)
class _Walk:
    """The images still in the search: where each is, and the nearest misclassified image found."""

    rows: Tensor
    x: Images
    y: Labels
    target: Labels
    x_adv: Images
    nearest: Images
    distance: PerImage

    def of(self, kept: Tensor) -> "_Walk":
        """The same for those images."""
        return _Walk(*(getattr(self, field.name)[kept] for field in fields(self)))

    def move(self, classifier: Classifier, norm: Norm) -> None:
        """One step to the linearised boundary, biased towards the original images."""
        x_adv = self.x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        lead = at(logits, self.target) - at(logits, self.y)
        gradient = gradient_of(lead, x_adv)
        x_adv, lead = x_adv.detach(), lead.detach()
        unit = _power_of_two(gradient)
        gradient, lead = gradient * expand(unit), lead * unit
        step = step_to_hyperplane(x_adv, gradient, -lead, norm)
        back = step_to_hyperplane(self.x, gradient, inner(gradient, x_adv - self.x) - lead, norm)
        near, far = norms(step, norm).clamp_min(_SHORTEST), norms(back, norm).clamp_min(_SHORTEST)
        share = expand((near / (near + far)).clamp_max(_FROM_ORIGINAL))
        ahead, home = x_adv.add(step, alpha=_OVERSHOOT), self.x.add(back, alpha=_OVERSHOOT)
        self.x_adv = ahead.lerp_(home, share).clamp_(0, 1)

    def note(self, broken: Tensor, norm: Norm) -> None:
        """Keeps the misclassified images that are nearer than those before, and draws these back to their originals."""
        distance = norms(self.x_adv - self.x, norm)
        nearer = broken & (distance < self.distance)
        rows = nearer.nonzero().squeeze(1)
        self.nearest[rows], self.distance[rows] = self.x_adv[rows], distance[rows]
        self.x_adv = torch.lerp(self.x, self.x_adv, expand(1 - (1 - _BACKWARD) * broken.float()))


def fab(
    classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, iterations: int, target: Labels, start: Images
) -> Images:
    """One run: each image where it was first misclassified within the radius, or the nearest misclassified one outside.

    Cost: 2 · `iterations` forward and `iterations` backward passes of the images still in the search.
    Source: Croce and Hein 2020 (FAB, arXiv 1907.02044), algorithm 1, in the targeted form that AutoAttack uses.
    Differs: an image leaves as soon as it is broken within the radius: how much nearer it can be broken is not asked.
    """
    everywhere = torch.full((len(x),), torch.inf, device=x.device)
    walk = _Walk(torch.arange(len(x), device=x.device), x, y, target, start, start.clone(), everywhere)
    found = start.clone()
    for _ in range(iterations):
        walk.move(classifier, threat.norm)
        with torch.no_grad():
            broken = classifier(walk.x_adv).argmax(1) != walk.y
        walk.note(broken, threat.norm)
        outside = (walk.distance > threat.epsilon).nonzero().squeeze(1)
        if len(outside) < len(walk.rows):
            found[walk.rows] = walk.nearest
            walk = walk.of(outside)
        if not len(outside):
            return found
    found[walk.rows] = walk.nearest
    return found


class Fab:
    """FAB, one run against each of the nearest classes, from the image itself; restarts begin half a radius away.

    Args:
        num_classes: there are at most that many less one targets.
    """

    def __init__(self, spec: FabSpec, num_classes: int) -> None:
        self._spec = spec
        self._targets = min(spec.targets, num_classes - 1)

    @property
    def runs(self) -> int:
        """Restarts for each target in turn."""
        return self._targets * self._spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """The images after one run."""
        place, restart = divmod(number, self._spec.restarts)
        start = Ball(x, threat).random_edge_point(random, 0.5) if restart else x
        return fab(classifier, x, y, threat, self._spec.iterations, runner_up(classifier, x, y, place), start)
