"""Estimate what a job costs before it runs: passes of an image through the network, and their time from an earlier report."""

from typing import NamedTuple

from faal_core.results.documents import AuditReport
from faal_core.specs import ApgdSpec, AuditSettings, FinetuneSpec
from faal_core.specs.training import INTERPOLATIONS, OFFSET_SCALES, OFFSET_TARGETS


class Cost(NamedTuple):
    """Passes, forward ones and backward ones alike, at most; and those that are likely, as far as an earlier audit tells."""

    most: float
    likely: float


def of_audit(spec: AuditSettings, images: int, num_classes: int, earlier: AuditReport | None = None) -> Cost:
    """Of an audit of so many images; likely it needs as great a part as an earlier one that went through."""
    images = min(images, spec.images or images)
    most = images * (1 + sum(attack.passes(num_classes) for attack in spec.attacks))
    if earlier is None or not earlier.complete:
        return Cost(most, most)
    possible = of_audit(earlier.spec, earlier.dataset.images, num_classes).most
    return Cost(most, most * min(passes_of(earlier) / possible, 1.0))


def of_training(spec: FinetuneSpec, images: int, num_classes: int) -> Cost:
    """Return the cost of the training alone, without weight perturbation and what some methods survey before an epoch.

    Args:
        images: the training images, those that are held out included.
    """
    training = spec.training
    fitted = images - _held_out(spec, images, num_classes)
    step = 2 * training.attack.steps + 2 + training.clean_forward  # forward and backward of the loss come last
    epochs = training.epochs * fitted * step + (training.epochs - 1) * _look(spec, images, num_classes)
    passes = epochs + sum(around_steps(spec, images, num_classes))
    return Cost(passes, passes)


def around_steps(spec: FinetuneSpec, images: int, num_classes: int) -> tuple[int, int]:
    """Return the passes before the first step, for class offsets, and after the last, to judge the candidates."""
    look, beginning, candidates = _look(spec, images, num_classes), 0, 0
    if spec.begins_with_offsets:
        held_out, targets = _held_out(spec, images, num_classes), min(OFFSET_TARGETS, num_classes - 1)
        searched = min(2 * held_out, images - held_out)
        beginning = searched * (1 + targets * 2 * (spec.training.attack.steps + 1)) + len(OFFSET_SCALES) * look
    if spec.training.bounded:
        given = not spec.begins_with_offsets  # the given weights, where they were not judged before
        candidates = len(INTERPOLATIONS) + given
    return beginning, (1 + candidates) * look


def _look(spec: FinetuneSpec, images: int, num_classes: int) -> int:
    """Return the passes that judge weights once on the held-out images: clean, and under the attack that judges them."""
    attack = ApgdSpec(loss="margin", iterations=2 * spec.training.attack.steps)
    return _held_out(spec, images, num_classes) * (1 + attack.passes(num_classes))


def _held_out(spec: FinetuneSpec, images: int, num_classes: int) -> int:
    """Return how many of the training images are held out."""
    share = spec.training.held_out_share
    return max(num_classes, round(share * images)) if share else 0


def passes_of(report: AuditReport) -> int:
    """How many an audit took."""
    return sum(attack.forward + attack.backward for attack in report.attacks)


def seconds_a_pass(report: AuditReport) -> float | None:
    """How long one took there; None where the audit made none."""
    passes = passes_of(report)
    return sum(attack.seconds for attack in report.attacks) / passes if passes else None
