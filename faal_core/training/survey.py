"""The measurements of every class that some methods take before an epoch: accuracies, losses, confusions under attack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from faal_core.classifier import Classifier, Logits
from faal_core.training.inner_maximum import AttackBatch, perturb, start_attack
from faal_core.training.losses import trades
from faal_core.training.run import TrainingRun

SurveyPart = Literal["training", "validation"]
# Part of the random seeds: other names would change results.
_SEED_NAMES: dict[SurveyPart, str] = {"training": "fitted", "validation": "held out"}


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


TakeSurvey = Callable[[SurveyPart], Survey]
"""Surveys the classifier as it is, on the images that are trained on or on the validation images."""


class _BothLogits(NamedTuple):
    clean: Logits
    adversarial: Logits


def survey(classifier: Classifier, run: TrainingRun, epoch: int, part: SurveyPart) -> Survey:
    """Measure the classifier before that epoch, counted from 0, on the images of that part.

    Cost: the attack of an epoch over these images, no step.
    """
    rows = run.rows.training if part == "training" else run.rows.validation
    generator = run.generator("survey", _SEED_NAMES[part], epoch)
    with run.autocast():
        return survey_rows(classifier, rows, run, generator)


def survey_rows(classifier: Classifier, rows: Tensor, run: TrainingRun, generator: torch.Generator) -> Survey:
    """Measure the classifier in eval mode on these rows; each rank processes its shard of each batch."""
    classifier.eval()
    classes = classifier.num_classes
    sums = torch.zeros(classes, 5 + classes, dtype=torch.float64, device=run.device)
    for batch_rows in rows.split(run.training.batch_size):
        x = classifier.lay_out(run.data.pixels(batch_rows, run.device))
        y = run.data.labels[batch_rows].to(run.device)
        batch = start_attack(x, y, torch.ones_like(y).float(), run.spec, generator)
        shard = batch.subset(run.ranks.shard(len(x)))
        with run.ranks.fail_together():
            logits = run.pieces.fit(partial(_both_logits, classifier, shard, run), len(shard.x))
        terms = trades(logits.clean, logits.adversarial, shard.y)
        correct = [(part.argmax(1) == shard.y).double() for part in logits]
        values = [torch.ones_like(correct[0]), *correct, terms.classification.double(), terms.divergence.double()]
        sums.index_add_(0, shard.y, torch.cat([torch.stack(values, 1), logits.adversarial.softmax(1).double()], 1))
    run.ranks.sum(sums)
    means = sums[:, 1:] / sums[:, :1].clamp_min(1)
    return Survey(means[:, 0], means[:, 1], means[:, 2], means[:, 3], means[:, 4:])


def _both_logits(classifier: Classifier, batch: AttackBatch, run: TrainingRun, size: int) -> _BothLogits:
    """Return the logits of the clean and of the perturbed images, computed `size` at a time."""
    x_adv = perturb(classifier, batch, run.spec, size)
    with torch.no_grad():
        return _BothLogits(*(torch.cat([classifier(part) for part in x.split(size)]) for x in (batch.x, x_adv)))
