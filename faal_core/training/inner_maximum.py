"""The inner maximum of training: the images of a batch where the classifier is worst, as far as PGD finds them."""

import torch

from faal_core.attacks.ball import Ball, direction
from faal_core.attacks.losses import LOSSES
from faal_core.attacks.randomness import BatchRandom
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.evaluation import frozen
from faal_core.specs import TrainingAttack
from faal_core.threat_model import ThreatModel
from faal_core.training.losses import kl_divergence

_NEAR = 1e-3  # standard deviation of where an ascent of the divergence starts: at the image it has no gradient


def worst_images(
    classifier: Classifier,
    x: Images,
    y: Labels,
    threat: ThreatModel,
    attack: TrainingAttack,
    loss: str,
    generator: torch.Generator,
    reach: PerImage,
) -> Images:
    """Every image after every step of PGD from one random start.

    Args:
        loss: "cross-entropy", "margin" or "kl", the divergence from the clean answer.
        reach: multiples of ε, one an image, for radius and step.
    Cost: `steps` forward and backward passes, and a forward pass for "kl"; no gradient of the weights.
    Source: Madry et al. 2018, eq. 3; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    size = classifier.images_in_cache(x.shape[1:])
    with frozen(classifier):
        found = [
            _climbed(classifier, Ball(part, threat, reaches), labels, attack, loss, generator)
            for part, labels, reaches in zip(x.split(size), y.split(size), reach.split(size), strict=True)
        ]
    return classifier.lay_out(torch.cat(found))


def _climbed(
    classifier: Classifier, ball: Ball, y: Labels, attack: TrainingAttack, loss: str, generator: torch.Generator
) -> Images:
    """The images of the balls' centres, as far up as the steps lead."""
    step = attack.relative_step * ball.radius
    if loss == "kl":
        with torch.no_grad():
            clean = classifier(ball.x)
        noise = torch.randn(ball.x.shape, generator=generator, device=ball.x.device)
        x_adv = ball.project(ball.x + _NEAR * noise)
    else:
        x_adv = ball.random_point(BatchRandom(generator))
    for _ in range(attack.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        value = kl_divergence(clean, logits) if loss == "kl" else LOSSES[loss](logits, y)
        (gradient,) = torch.autograd.grad(value.sum(), x_adv)
        x_adv = ball.project(x_adv.detach() + step * direction(gradient, ball.norm))
    return x_adv
