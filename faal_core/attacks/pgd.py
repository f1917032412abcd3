"""Run projected gradient descent, the attack of first looks; training uses `training.inner_maximum`."""

from dataclasses import dataclass

import torch

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import LOSSES, compute_gradient
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
    """Return each image after `spec.steps` steps of PGD, or where it was first misclassified, from one start.

    Args:
        until_broken: let an image leave at the first iterate that is misclassified (audits); otherwise every image takes
            every step. The last iterate is not checked: the caller predicts again.
    Cost: `steps` forward and backward passes of the images still in the search; no gradient of the weights.
    Source: Madry et al. 2018, eq. 3; for L2 the step follows the normalised gradient.
    Differs: with `until_broken` any iterate counts, so that the attack is never weaker than its last iterate.
    """
    loss = LOSSES[spec.loss]
    step_size = spec.relative_step * threat.epsilon
    ball = Ball(x, threat)
    x_adv = ball.draw_point(random) if spec.random_start else x
    result = x_adv.clone()
    rows = torch.arange(len(x), device=x.device)
    for _ in range(spec.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        gradient = compute_gradient(loss(logits, y), x_adv)
        if until_broken:
            unbroken = (logits.argmax(1) == y).nonzero().squeeze(1)
            if len(unbroken) < len(rows):
                result[rows] = x_adv.detach()
                rows, ball, y = rows[unbroken], ball.subset(unbroken), y[unbroken]
                x_adv, gradient = x_adv[unbroken], gradient[unbroken]
            if not len(rows):
                return result
        x_adv = ball.step(x_adv, gradient, step_size)
    if not until_broken:
        return x_adv
    result[rows] = x_adv
    return result


@dataclass(frozen=True, slots=True)
class Pgd:
    """Runs PGD; each run is one start."""

    spec: PgdSpec

    @property
    def runs(self) -> int:
        """Return the number of runs: one per restart."""
        return self.spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """Return the images after one start; runs differ only in their random numbers."""
        return pgd(classifier, x, y, threat, self.spec, random, until_broken=True)
