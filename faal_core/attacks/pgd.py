"""Projected gradient descent: the attack of audits, and of training."""

from dataclasses import dataclass

import torch

from faal_core.attacks.losses import LOSSES
from faal_core.attacks.projections import ascend, project, random_start
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import PgdSpec
from faal_core.threat_model import ThreatModel


def pgd(
    classifier: Classifier,
    x: Images,
    y: Labels,
    threat: ThreatModel,
    spec: PgdSpec,
    generator: torch.Generator,
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
    x_adv = random_start(x, threat, generator) if spec.random_start else x
    found = x_adv.clone()
    searched = torch.arange(len(x), device=x.device)
    for _ in range(spec.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        (gradient,) = torch.autograd.grad(loss(logits, y).sum(), x_adv)
        if until_broken:
            unbroken = (logits.argmax(1) == y).nonzero().squeeze(1)
            if len(unbroken) < len(searched):
                found[searched] = x_adv.detach()
                searched, x, y = searched[unbroken], x[unbroken], y[unbroken]
                x_adv, gradient = x_adv[unbroken], gradient[unbroken]
            if not len(searched):
                return found
        x_adv = project(ascend(x_adv.detach(), gradient, step, threat.norm), x, threat)
    if not until_broken:
        return x_adv
    found[searched] = x_adv
    return found


@dataclass(frozen=True, slots=True)
class Pgd:
    """PGD with restarts, each on the images that the starts before left unbroken."""

    spec: PgdSpec

    def __call__(
        self, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, generator: torch.Generator
    ) -> Images:
        """The adversarial images; an image broken by an early start keeps that start's."""
        x_adv = pgd(classifier, x, y, threat, self.spec, generator, until_broken=True)
        for _ in range(self.spec.restarts - 1):
            with torch.no_grad():
                unbroken = (classifier(x_adv).argmax(1) == y).nonzero().squeeze(1)
            if not len(unbroken):
                break
            x_adv[unbroken] = pgd(classifier, x[unbroken], y[unbroken], threat, self.spec, generator, until_broken=True)
        return x_adv
