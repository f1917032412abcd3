"""The attack of training: PGD towards the images of a batch where the classifier is worst, the inner maximum."""

from dataclasses import dataclass

import torch

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import LOSSES
from faal_core.attacks.randomness import BatchRandom
from faal_core.auditing.evaluator import freeze_weights
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import FinetuneSpec
from faal_core.training.losses import kl_divergence

_KL_START_DEVIATION = 1e-3  # in pixel units; the divergence has no gradient at the image itself


@dataclass(frozen=True, slots=True)
class AttackBatch:
    """Images to attack, their labels, and for each the point where its attack starts and its radius in ε."""

    x: Images
    y: Labels
    start: Images
    relative_radius: PerImage

    def subset(self, rows: slice) -> "AttackBatch":
        """Return some of the images."""
        return AttackBatch(self.x[rows], self.y[rows], self.start[rows], self.relative_radius[rows])

    def split(self, size: int) -> list["AttackBatch"]:
        """Split into batches of `size` images; the last may have fewer."""
        return [self.subset(slice(first, first + size)) for first in range(0, max(len(self.x), 1), size)]


def start_attack(
    x: Images, y: Labels, relative_radius: PerImage, spec: FinetuneSpec, generator: torch.Generator
) -> AttackBatch:
    """Draw where the attack of each image starts: anywhere in its ball, or for the loss "kl" close to the image.

    Args:
        relative_radius: radius of each image, in ε.
    Source: Madry et al. 2018; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    ball = Ball(x, spec.threat, relative_radius)
    if spec.attack_loss == "kl":
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return AttackBatch(x, y, ball.project(x + _KL_START_DEVIATION * noise), relative_radius)
    return AttackBatch(x, y, ball.draw_point(BatchRandom(generator)), relative_radius)


def perturb(classifier: Classifier, batch: AttackBatch, spec: FinetuneSpec, max_images: int) -> Images:
    """Return every image after all steps of PGD, as the spec's attack of training takes them.

    Args:
        max_images: how many images fit into the device's memory at a time.
    Cost: `steps` forward and backward passes, and a forward pass for the loss "kl"; no gradient of the weights.
    Source: Madry et al. 2018, eq. 3; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    size = min(max_images, classifier.images_in_cache(batch.x.shape[1:]))
    with freeze_weights(classifier):
        x_adv = torch.cat([_perturb_piece(classifier, piece, spec) for piece in batch.split(size)])
    return classifier.lay_out(x_adv)


def _perturb_piece(classifier: Classifier, batch: AttackBatch, spec: FinetuneSpec) -> Images:
    attack, loss = spec.training.attack, spec.attack_loss
    ball = Ball(batch.x, spec.threat, batch.relative_radius)
    step_size = attack.relative_step * ball.radius
    if loss == "kl":
        with torch.no_grad():
            clean_logits = classifier(batch.x)
    x_adv = batch.start
    for _ in range(attack.steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = classifier(x_adv)
        value = kl_divergence(clean_logits, logits) if loss == "kl" else LOSSES[loss](logits, batch.y)
        (gradient,) = torch.autograd.grad(value.sum(), x_adv)
        x_adv = ball.step(x_adv, gradient, step_size)
    return x_adv
