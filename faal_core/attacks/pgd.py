"""Run projected gradient descent, the attack of first looks; training uses `training.inner_maximum`."""

from dataclasses import dataclass

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import LOSSES
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.search import Search
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
    search = Search(x_adv)
    for _ in range(spec.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        gradient = search.compute_gradient(loss(logits, y), x_adv)
        if until_broken:
            places = search.leave(x_adv.detach(), logits.argmax(1) != y)
            if places is not None:
                ball, y, x_adv, gradient = ball.subset(places), y[places], x_adv[places], gradient[places]
            if not len(y):
                break
        x_adv = ball.step(x_adv, gradient, step_size)
    return search.finish(x_adv.detach())


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
