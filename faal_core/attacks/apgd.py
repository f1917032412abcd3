"""Auto-PGD: gradient ascent with momentum whose step size adapts to each image."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, direction, expand
from faal_core.attacks.losses import LOSSES, gradient_of, targeted_dlr
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.targets import runner_up
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import ApgdSpec
from faal_core.threat_model import ThreatModel

_FIRST_STEP = 2.0  # in ε
_MOMENTUM = 0.75  # share of the gradient step; the rest goes on as before
_RISES = 0.75  # share of steps that must raise the loss, or the step is halved


def checkpoints(iterations: int) -> set[int]:
    """The iterations after which step sizes are reconsidered: 22 % of all, then gaps shrinking by 3 % down to 6 %.

    Source: Croce and Hein 2020, section 3.1; gaps in whole iterations, at least one.
    """
    gap, shrink, least = (max(int(share * iterations), 1) for share in (0.22, 0.03, 0.06))
    found, position = set(), 0
    while position + gap <= iterations:
        position += gap
        found.add(position)
        gap = max(gap - shrink, least)
    return found


@dataclass(slots=True)
class _Climb:
    """The images still in the search: where each is, where it was best, and how its steps fared since the last checkpoint."""

    rows: Tensor
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
        """No step taken yet and no loss known: whatever is found first is the best so far, and no rise."""
        count, device = len(y), y.device
        unknown = torch.full((count,), torch.inf, device=device)
        return cls(
            rows=torch.arange(count, device=device),
            y=y,
            target=target,
            x_adv=x_adv,
            previous=x_adv,
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

    def of(self, kept: Tensor) -> "_Climb":
        """The same for those images."""
        values = (getattr(self, field.name) for field in fields(self))
        kept_values: list[Any] = [value.of(kept) if isinstance(value, Ball) else value[kept] for value in values]
        return _Climb(*kept_values)

    def note(self, loss: PerImage, gradient: Images) -> None:
        """What was found at the images as they are."""
        self.rises += loss > self.loss
        self.loss, self.gradient = loss, gradient
        better = (loss > self.best_loss).nonzero().squeeze(1)
        self.best[better], self.best_gradient[better] = self.x_adv[better], gradient[better]
        self.best_loss = torch.maximum(loss, self.best_loss)

    def reconsider(self, taken: int) -> None:
        """Halves the steps of images that rose too seldom in the `taken` steps since the last time, or came no higher.

        These go on from their best image. Source: Croce and Hein 2020, conditions 1 and 2 of section 3.1.
        """
        stuck = ~self.halved & (self.best_before >= self.best_loss)
        self.halved = (self.rises <= _RISES * taken) | stuck
        back = self.halved.float()
        self.step = self.step * (1 - back / 2)
        self.x_adv = torch.lerp(self.x_adv, self.best, expand(back))
        self.gradient = torch.lerp(self.gradient, self.best_gradient, expand(back))
        self.best_before = self.best_loss
        self.rises.zero_()

    def move(self, share: float) -> None:
        """One step: `share` of the way along the gradient, the rest along the last step."""
        steepest = direction(self.gradient, self.ball.norm)
        towards = self.ball.project(torch.addcmul(self.x_adv, expand(self.step), steepest))
        onwards = torch.lerp(self.previous, self.x_adv, 2.0)
        self.previous, self.x_adv = self.x_adv, self.ball.project(onwards.lerp_(towards, share))


def apgd(
    classifier: Classifier,
    x: Images,
    y: Labels,
    threat: ThreatModel,
    iterations: int,
    loss: Callable[[Tensor, Labels, Labels], PerImage],
    target: Labels,
    random: RandomSource,
) -> Images:
    """One run: each image where it was first misclassified, or at its highest loss.

    Cost: `iterations` + 1 forward and `iterations` backward passes of the images still in the search.
    Source: Croce and Hein 2020, algorithm 1, from a random point of the sphere.
    Differs: an image leaves when it is misclassified; the first step's rise is measured from the start.
    """
    ball = Ball(x, threat)
    climb = _Climb.begin(ball.random_edge_point(random), y, target, ball)
    found = climb.x_adv.clone()
    reconsidered, last = checkpoints(iterations), 0
    for taken in range(iterations + 1):
        x_adv = climb.x_adv.detach().requires_grad_(taken < iterations)
        logits = classifier(x_adv)
        value = loss(logits, climb.y, climb.target)
        gradient = gradient_of(value, x_adv) if taken < iterations else climb.gradient
        climb.x_adv, value = x_adv.detach(), value.detach()
        unbroken = (logits.argmax(1) == climb.y).nonzero().squeeze(1)
        if len(unbroken) < len(climb.rows):
            found[climb.rows] = climb.x_adv
            climb, value, gradient = climb.of(unbroken), value[unbroken], gradient[unbroken]
        if not len(unbroken):
            return found
        climb.note(value, gradient)
        if taken in reconsidered:
            climb.reconsider(taken - last)
            last = taken
        if taken < iterations:
            climb.move(_MOMENTUM if taken else 1.0)
    found[climb.rows] = climb.best
    return found


class Apgd:
    """Auto-PGD: untargeted, or one run against each of the nearest classes.

    Args:
        num_classes: there are at most that many less one targets.
    """

    def __init__(self, spec: ApgdSpec, num_classes: int) -> None:
        self._spec = spec
        self._targets = min(spec.targets, num_classes - 1)

    @property
    def runs(self) -> int:
        """Restarts for each target in turn."""
        return max(self._targets, 1) * self._spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """The images after one run."""
        if self._targets:
            target = runner_up(classifier, x, y, number // self._spec.restarts)
            return apgd(classifier, x, y, threat, self._spec.iterations, targeted_dlr, target, random)
        loss = LOSSES[self._spec.loss]
        return apgd(classifier, x, y, threat, self._spec.iterations, lambda z, y, _: loss(z, y), y, random)
