"""The attack of training: PGD towards the images of a batch where the classifier is worst, the inner maximum."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import LOSSES
from faal_core.attacks.randomness import BatchRandom
from faal_core.auditing.evaluator import freeze_weights
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.devices import has_bfloat16
from faal_core.specs import FinetuneSpec
from faal_core.training.attack_threads import AttackThreads
from faal_core.training.losses import kl_divergence

_KL_START_DEVIATION = 1e-3  # in pixel units; the divergence has no gradient at the image itself


@dataclass(frozen=True, slots=True)
class AttackBatch:
    """Images to attack, their labels and cells, and for each the point where its attack starts and its radius in ε."""

    x: Images
    y: Labels
    start: Images
    relative_radius: PerImage
    cells: Tensor

    def subset(self, rows: slice) -> "AttackBatch":
        """Return some of the images."""
        return AttackBatch(self.x[rows], self.y[rows], self.start[rows], self.relative_radius[rows], self.cells[rows])

    def split(self, count: int) -> list["AttackBatch"]:
        """Split into `count` batches, whose sizes differ by at most one image."""
        ends = [len(self.x) * number // count for number in range(count + 1)]
        return [self.subset(slice(*pair)) for pair in pairwise(ends)]


def start_attack(
    x: Images,
    y: Labels,
    relative_radius: PerImage,
    spec: FinetuneSpec,
    generator: torch.Generator,
    cells: Tensor | None = None,
) -> AttackBatch:
    """Draw where the attack of each image starts: anywhere in its ball, or for the loss "kl" close to the image.

    Args:
        relative_radius: radius of each image, in ε.
        cells: cell of each image; its class when absent.
    Source: Madry et al. 2018; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    cells = y if cells is None else cells
    ball = Ball(x, spec.threat, relative_radius)
    if spec.attack_loss == "kl":
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return AttackBatch(x, y, ball.project(x + _KL_START_DEVIATION * noise), relative_radius, cells)
    return AttackBatch(x, y, ball.draw_point(BatchRandom(generator)), relative_radius, cells)


def perturb(classifier: Classifier, batch: AttackBatch, spec: FinetuneSpec, max_images: int) -> Images:
    """Return every image after all steps of PGD, as the spec's attack of training takes them.

    Args:
        max_images: how many images fit into the device's memory at a time.
    Cost: `steps` forward and backward passes, and a forward pass for the loss "kl"; no gradient of the weights. On a CPU, each
        thread of torch computes images of its own (`attack_threads`).
    Source: Madry et al. 2018, eq. 3; for "kl" Zhang et al. 2019 (TRADES), algorithm 1.
    """
    images = len(batch.x)
    threads = AttackThreads.for_batch(classifier, min(images, max_images))
    with freeze_weights(classifier), _autocast(classifier.device, spec):
        largest = min(max(max_images // threads.count, 1), classifier.images_in_cache(batch.x.shape[1:]))
        pieces = batch.split(threads.count_pieces(images, largest))
        x_adv = torch.cat(threads.map(partial(_perturb_piece, classifier, spec=spec), pieces))
    return classifier.lay_out(x_adv)


def _autocast(device: torch.device, spec: FinetuneSpec) -> torch.autocast:
    """Return a context that computes convolutions and products in the attack's precision."""
    precision = spec.training.attack.precision
    is_half = "bfloat16" in (precision, spec.training.precision) or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_half, cache_enabled=False)


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
