"""The inner maximum of training: the images of a batch where the classifier is worst, as far as PGD finds them."""

import torch

from faal_core.attacks.ball import Ball, direction
from faal_core.attacks.losses import LOSSES
from faal_core.attacks.randomness import BatchRandom
from faal_core.audit.evaluator import frozen
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import TrainingAttack
from faal_core.threat_model import ThreatModel
from faal_core.training.losses import kl_divergence

_NEAR = 1e-3  # standard deviation of where an ascent of the divergence starts: at the image it has no gradient


def starting_points(x: Images, threat: ThreatModel, loss: str, generator: torch.Generator, reach: PerImage) -> Images:
    """Where the ascent of `loss` begins: anywhere in the ball of each image, for "kl" close to the image.

    Source: Madry et al. 2018; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    ball = Ball(x, threat, reach)
    if loss == "kl":
        return ball.project(x + _NEAR * torch.randn(x.shape, generator=generator, device=x.device))
    return ball.random_point(BatchRandom(generator))


def worst_images(
    classifier: Classifier,
    x: Images,
    y: Labels,
    threat: ThreatModel,
    attack: TrainingAttack,
    loss: str,
    start: Images,
    reach: PerImage,
    at_once: int,
) -> Images:
    """Every image after every step of PGD from where it starts.

    Args:
        loss: "cross-entropy", "margin" or "kl", the divergence from the clean answer.
        reach: multiples of ε, one an image, for radius and step.
        at_once: how many images there is room for.
    Cost: `steps` forward and backward passes, and a forward pass for "kl"; no gradient of the weights.
    Source: Madry et al. 2018, eq. 3; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    size = min(at_once, classifier.images_in_cache(x.shape[1:]))
    with frozen(classifier):
        parts = zip(x.split(size), y.split(size), start.split(size), reach.split(size), strict=True)
        found = [
            _climbed(classifier, Ball(centre, threat, reaches), labels, attack, loss, first)
            for centre, labels, first, reaches in parts
        ]
    return classifier.lay_out(torch.cat(found))


def _climbed(classifier: Classifier, ball: Ball, y: Labels, attack: TrainingAttack, loss: str, x_adv: Images) -> Images:
    """The images of the balls' centres, as far up as the steps lead."""
    step = attack.relative_step * ball.radius
    if loss == "kl":
        with torch.no_grad():
            clean = classifier(ball.x)
    for _ in range(attack.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        value = kl_divergence(clean, logits) if loss == "kl" else LOSSES[loss](logits, y)
        (gradient,) = torch.autograd.grad(value.sum(), x_adv)
        x_adv = ball.project(x_adv.detach() + step * direction(gradient, ball.norm))
    return x_adv
