"""Run Auto-PGD: gradient ascent with momentum, whose step size adapts to each image."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, direction, expand
from faal_core.attacks.losses import LOSSES, targeted_dlr
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.search import Search
from faal_core.attacks.surrogate import surrogate_network
from faal_core.attacks.targets import NearestTargets, select_target
from faal_core.classifier import Classifier, Images, Labels, Logits, PerImage
from faal_core.specs import ApgdSpec
from faal_core.threat_model import ThreatModel

_FIRST_STEP = 2.0  # in multiples of ε: a step may cross the whole ball
_MOMENTUM = 0.75  # fraction of a move along the gradient; the rest repeats the last move
_RISES = 0.75  # fraction of steps that must raise the loss; otherwise the step size is halved


def list_checkpoints(iterations: int) -> set[int]:
    """Return the iterations after which step sizes are adapted.

    The first gap is 22 % of all iterations. Each further gap is 3 % of all iterations shorter, down to 6 %.

    Source: Croce and Hein 2020, section 3.1. Differs: gaps are whole iterations, at least one.
    """
    gap, shrink, least = (max(int(fraction * iterations), 1) for fraction in (0.22, 0.03, 0.06))
    iterations_listed, position = set(), 0
    while position + gap <= iterations:
        position += gap
        iterations_listed.add(position)
        gap = max(gap - shrink, least)
    return iterations_listed


@dataclass(slots=True)
class _Climb:
    """Holds the images still in the search: their current and best points, and their progress since the last checkpoint."""

    y: Labels
    target: Labels
    x_adv: Images
    previous: Images
    gradient: Images
    loss: PerImage
    best: Images
    best_gradient: Images
    best_loss: PerImage
    best_before: PerImage
    step: PerImage
    halved: Tensor
    rises: Tensor
    ball: Ball

    @classmethod
    def begin(cls, x_adv: Images, y: Labels, target: Labels, ball: Ball) -> "_Climb":
        """Start with no step taken and no loss known: the first loss becomes the best one and does not count as a rise."""
        count, device = len(y), y.device
        unknown = torch.full((count,), torch.inf, device=device)
        return cls(
            y=y,
            target=target,
            x_adv=x_adv,
            previous=x_adv.clone(),
            gradient=torch.zeros_like(x_adv),
            loss=unknown,
            best=x_adv.clone(),
            best_gradient=torch.zeros_like(x_adv),
            best_loss=-unknown,
            best_before=-unknown,
            step=torch.full((count,), _FIRST_STEP * ball.epsilon, device=device),
            halved=torch.ones(count, dtype=torch.bool, device=device),
            rises=torch.zeros(count, dtype=torch.int64, device=device),
            ball=ball,
        )

    def subset(self, indices: Tensor) -> "_Climb":
        """Return the state of the images at `indices` alone."""
        values = (getattr(self, field.name) for field in fields(self))
        selected: list[Any] = [v.subset(indices) if isinstance(v, Ball) else v[indices] for v in values]
        return _Climb(*selected)

    def record(self, loss: PerImage, gradient: Images) -> None:
        """Store the loss and gradient at the current points, and update the best points."""
        self.rises += loss > self.loss
        self.loss, self.gradient = loss, gradient
        better = expand((loss > self.best_loss).float())
        self.best.lerp_(self.x_adv, better)
        self.best_gradient.lerp_(gradient, better)
        self.best_loss = torch.maximum(loss, self.best_loss)

    def adapt_steps(self, steps: int) -> None:
        """Halve the step size of images that rose too seldom in the last `steps` steps, or whose best loss did not rise.

        These images continue from their best point.

        Source: Croce and Hein 2020, conditions 1 and 2 of section 3.1.
        """
        stuck = ~self.halved & (self.best_before >= self.best_loss)
        self.halved = (self.rises <= _RISES * steps) | stuck
        restart = self.halved.float()
        self.step = self.step * (1 - restart / 2)
        self.x_adv = torch.lerp(self.x_adv, self.best, expand(restart))
        self.gradient = torch.lerp(self.gradient, self.best_gradient, expand(restart))
        self.best_before = self.best_loss
        self.rises.zero_()

    def move(self, fraction: float) -> None:
        """Take one step: `fraction` of the way along the gradient, the rest along the previous step."""
        ascent = direction(self.gradient, self.ball.norm)
        along_gradient = self.ball.project(torch.addcmul(self.x_adv, expand(self.step), ascent, out=ascent))
        repeated = self.previous.lerp_(self.x_adv, 2.0)
        self.previous, self.x_adv = self.x_adv, self.ball.project(repeated.lerp_(along_gradient, fraction))


def apgd(
    network: Callable[[Images], Logits],
    x: Images,
    y: Labels,
    threat: ThreatModel,
    iterations: int,
    loss: Callable[[Tensor, Labels, Labels], PerImage],
    target: Labels,
    random: RandomSource,
    judge: Callable[[Images], Logits] | None = None,
) -> Images:
    """Return each image where it was first misclassified, or at its highest loss, after one run of Auto-PGD.

    Args:
        network: the classifier, or a function that returns its logits with other gradients.
        judge: decides which images are misclassified, where that is not `network` itself.
    Cost: `iterations` + 1 forward and `iterations` backward passes of the images still in the search, and as many forward
        passes of `judge`.
    Source: Croce and Hein 2020, algorithm 1, from a random point of the sphere.
    Differs: an image leaves the search when it is misclassified; the first step's rise is measured from the start.
    """
    ball = Ball(x, threat)
    climb = _Climb.begin(ball.draw_edge_point(random), y, target, ball)
    search = Search(climb.x_adv)
    checkpoints, last_checkpoint = list_checkpoints(iterations), 0
    for iteration in range(iterations + 1):
        x_adv = climb.x_adv.detach().requires_grad_(iteration < iterations)
        logits = network(x_adv)
        value = loss(logits, climb.y, climb.target)
        gradient = search.compute_gradient(value, x_adv) if iteration < iterations else climb.gradient
        climb.x_adv, value = x_adv.detach(), value.detach()
        if judge is not None:
            with torch.no_grad():
                logits = judge(climb.x_adv)
        places = search.leave(climb.x_adv, logits.argmax(1) != climb.y)
        if places is not None:
            climb, value, gradient = climb.subset(places), value[places], gradient[places]
        if not len(climb.y):
            break
        climb.record(value, gradient)
        if iteration in checkpoints:
            climb.adapt_steps(iteration - last_checkpoint)
            last_checkpoint = iteration
        if iteration < iterations:
            climb.move(_MOMENTUM if iteration else 1.0)
    return search.finish(climb.best)


class Apgd:
    """Runs Auto-PGD: untargeted, or once against each of the nearest classes.

    Args:
        num_classes: number of classes; limits the targets to `num_classes` − 1.
    """

    def __init__(self, spec: ApgdSpec, num_classes: int) -> None:
        self._spec = spec
        self._targets = min(spec.targets, num_classes - 1)
        self._nearest = NearestTargets(self._targets) if spec.uses_malt(num_classes) else None

    @property
    def runs(self) -> int:
        """Return the number of runs: all restarts against the first target, then against the next."""
        return max(self._targets, 1) * self._spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """Return the images after run `number`."""
        network = surrogate_network(classifier, x) if self._spec.gradient == "surrogate" else classifier
        if self._targets:
            target = self._select_target(number // self._spec.restarts, classifier, x, y, threat)
            return apgd(network, x, y, threat, self._spec.iterations, targeted_dlr, target, random)
        loss = LOSSES[self._spec.loss]
        return apgd(network, x, y, threat, self._spec.iterations, lambda z, y, _: loss(z, y), y, random)

    def _select_target(self, rank: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> Labels:
        """Return the target of that rank (from 0) for each image, in the order of the spec."""
        if self._nearest is None:
            return select_target(classifier, x, y, rank)
        return self._nearest.select(classifier, x, y, threat.norm, rank)
