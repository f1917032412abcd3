"""What some methods must know of every class before an epoch: accuracies, losses and confusions under attack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from faal_core.classifier import Classifier, Images, Labels, Logits, PerImage
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.device_memory import Pieces
from faal_core.specs import FinetuneSpec
from faal_core.training.inner_maximum import starting_points, worst_images
from faal_core.training.losses import trades
from faal_core.training.ranks import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Survey:
    """Means over the images of each class, float64, `k`; 0 where a class has none.

    Args:
        clean, robust: accuracy clean, and on images perturbed as in training.
        classification, divergence: the terms of TRADES, in nats.
        confusion: `k k`: row i the mean adversarial probabilities of the images of class i.
    """

    clean: Tensor
    robust: Tensor
    classification: Tensor
    divergence: Tensor
    confusion: Tensor


Surveyed = Callable[[Literal["fitted", "held out"]], Survey]


def _answers(
    classifier: Classifier, x: Images, y: Labels, start: Images, reach: PerImage, spec: FinetuneSpec, size: int
) -> tuple[Logits, Logits]:
    """Logits of the images as they are and as the attack of the training leaves them, `size` at a time."""
    x_adv = worst_images(classifier, x, y, spec.threat, spec.training.attack, spec.attack_loss, start, reach, size)
    with torch.no_grad():
        clean, adversarial = (torch.cat([classifier(part) for part in images.split(size)]) for images in (x, x_adv))
    return clean, adversarial


def survey(
    classifier: Classifier,
    data: LabelledImages,
    rows: Tensor,
    spec: FinetuneSpec,
    generator: torch.Generator,
    pieces: Pieces,
    ranks: Ranks = ALONE,
) -> Survey:
    """The survey of those images, by the classifier in eval mode; each process looks at its share of each batch.

    Cost: the attack of an epoch over them, no step.
    """
    classifier.eval()
    classes = classifier.num_classes
    sums = torch.zeros(classes, 5 + classes, dtype=torch.float64, device=generator.device)
    for few in rows.split(spec.training.batch_size):
        x, y = classifier.lay_out(data.pixels(few, generator.device)), data.labels[few].to(generator.device)
        reach, own = torch.ones_like(y).float(), ranks.share(len(x))
        start = starting_points(x, spec.threat, spec.attack_loss, generator, reach)
        x, y, start, reach = x[own], y[own], start[own], reach[own]
        with ranks.agreed():
            look = partial(_answers, classifier, x, y, start, reach, spec)
            clean, adversarial = pieces.fit(look, len(x))
        terms = trades(clean, adversarial, y)
        right = [(logits.argmax(1) == y).double() for logits in (clean, adversarial)]
        values = [torch.ones_like(right[0]), *right, terms.classification.double(), terms.divergence.double()]
        sums.index_add_(0, y, torch.cat([torch.stack(values, 1), adversarial.softmax(1).double()], 1))
    ranks.sum(sums)
    means = sums[:, 1:] / sums[:, :1].clamp_min(1)
    return Survey(means[:, 0], means[:, 1], means[:, 2], means[:, 3], means[:, 4:])
