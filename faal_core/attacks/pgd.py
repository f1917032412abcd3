"""Projected gradient descent, the attack of first looks; `training.inner_maximum` has the one of training."""

from dataclasses import dataclass

import torch

from faal_core.attacks.ball import Ball, direction
from faal_core.attacks.losses import LOSSES, gradient_of
from faal_core.attacks.randomness import RandomSource
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import PgdSpec
from faal_core.threat_model import ThreatModel


def pgd(
    classifier: Classifier,
    x: Images,
    y: Labels,
    threat: ThreatModel,
    spec: PgdSpec,
    random: RandomSource,
    *,
    until_broken: bool,
) -> Images:
    """One start of PGD: each image after `spec.steps` steps, or where it was first misclassified.

    Args:
        until_broken: leave an image at the first iterate that is misclassified and spend nothing more on it (audits);
            otherwise every image takes every step (training). The last iterate is not checked: the caller predicts again.
    Cost: `steps` forward and backward passes of the images still in the search; no gradient of the weights.
    Source: Madry et al. 2018, eq. 3; for L2 the step follows the normalised gradient.
    Differs: with `until_broken` any iterate counts, so that the attack is never weaker than its last iterate.
    """
    loss = LOSSES[spec.loss]
    step = spec.relative_step * threat.epsilon
    ball = Ball(x, threat)
    x_adv = ball.random_point(random) if spec.random_start else x
    found = x_adv.clone()
    searched = torch.arange(len(x), device=x.device)
    for _ in range(spec.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        gradient = gradient_of(loss(logits, y), x_adv)
        if until_broken:
            unbroken = (logits.argmax(1) == y).nonzero().squeeze(1)
            if len(unbroken) < len(searched):
                found[searched] = x_adv.detach()
                searched, ball, y = searched[unbroken], ball.of(unbroken), y[unbroken]
                x_adv, gradient = x_adv[unbroken], gradient[unbroken]
            if not len(searched):
                return found
        x_adv = ball.project(x_adv.detach() + step * direction(gradient, threat.norm))
    if not until_broken:
        return x_adv
    found[searched] = x_adv
    return found


@dataclass(frozen=True, slots=True)
class Pgd:
    """PGD; each run is one start."""

    spec: PgdSpec

    @property
    def runs(self) -> int:
        """One each restart."""
        return self.spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """The images after one start; the runs differ in their random numbers alone."""
        return pgd(classifier, x, y, threat, self.spec, random, until_broken=True)
