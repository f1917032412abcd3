"""Estimate what a job costs before it runs: passes through the network, and seconds per pass from an earlier report."""

from typing import NamedTuple

from faal_core.results.documents import AuditReport
from faal_core.specs import ApgdSpec, AuditSettings, FinetuneSpec
from faal_core.specs.training import CHANGE_SCALES, INTERPOLATIONS, OFFSET_TARGETS


class Cost(NamedTuple):
    """Holds the largest and the likely number of passes; a forward and a backward pass of one image count one each."""

    most: float
    likely: float


def audit_cost(spec: AuditSettings, images: int, num_classes: int, earlier: AuditReport | None = None) -> Cost:
    """Return the cost of an audit of at most `images` images, without attacks that follow warnings about gradients.

    Args:
        earlier: a complete audit of a similar classifier. The likely cost is the same fraction of the largest cost as
            there; without one, the likely cost is the largest cost.
    """
    images = min(images, spec.images or images)
    most = images * (1 + sum(attack.passes(num_classes) for attack in spec.attacks))
    if earlier is None or not earlier.complete:
        return Cost(most, most)
    possible = audit_cost(earlier.spec, earlier.dataset.images, num_classes).most
    return Cost(most, most * min(count_passes(earlier) / possible, 1.0))


def training_cost(spec: FinetuneSpec, images: int, num_classes: int) -> Cost:
    """Return the cost of the training, without weight perturbation and without the surveys that some methods make per epoch.

    Args:
        images: training images, the validation images included.
    """
    training = spec.training
    fitted = images - _count_validation_images(spec, images, num_classes)
    step = 2 * training.attack.steps + 2 + training.clean_forward  # forward and backward of the loss come last
    epochs = spec.epochs * fitted * step + max(spec.epochs - 1, 0) * count_judging_passes(spec, images, num_classes)
    passes = epochs + sum(count_surrounding_passes(spec, images, num_classes))
    return Cost(passes, passes)


class SurroundingPasses(NamedTuple):
    """Holds the passes of a training that no epoch makes.

    Args:
        search: attack training images, to find class offsets.
        starts: judge the weights with a changed last layer.
        ending: judge the last epoch and the candidates after it.
    """

    search: int
    starts: int
    ending: int


def count_surrounding_passes(spec: FinetuneSpec, images: int, num_classes: int) -> SurroundingPasses:
    """Return the passes before the first step and after the last one; without epochs there are none after."""
    judging, search, candidates = count_judging_passes(spec, images, num_classes), 0, 0
    if spec.begins_with_offsets:
        validation, targets = _count_validation_images(spec, images, num_classes), min(OFFSET_TARGETS, num_classes - 1)
        search = min(3 * validation, images - validation) * (1 + targets * (2 * spec.training.attack.steps + 1))
    if spec.training.has_bounds:
        unjudged = not spec.changes_head  # the given weights, where they were not judged before
        candidates = len(INTERPOLATIONS) + unjudged
    starts = (1 + len(CHANGE_SCALES)) * judging if spec.changes_head else 0
    return SurroundingPasses(search, starts, (1 + candidates) * judging if spec.epochs else 0)


def count_judging_passes(spec: FinetuneSpec, images: int, num_classes: int) -> int:
    """Return the passes that judge weights once on the validation images, clean and under attack."""
    attack = ApgdSpec(loss="margin", iterations=2 * spec.training.attack.steps)
    return _count_validation_images(spec, images, num_classes) * (1 + attack.passes(num_classes))


def _count_validation_images(spec: FinetuneSpec, images: int, num_classes: int) -> int:
    """Return the number of training images that are used for validation."""
    fraction = spec.training.validation_fraction
    return max(num_classes, round(fraction * images)) if fraction else 0


def count_passes(report: AuditReport) -> int:
    """Return the number of passes that an audit took."""
    return sum(attack.forward + attack.backward for attack in report.attacks)


def seconds_per_pass(report: AuditReport) -> float | None:
    """Return the mean seconds per pass of an audit, or None where it made none."""
    passes = count_passes(report)
    return count_seconds(report) / passes if passes else None


def count_seconds(report: AuditReport) -> float:
    """Return the seconds that the attacks of an audit took; several processes compute batches at the same time."""
    processes = (report.provenance.processes if report.provenance else None) or 1
    return sum(attack.seconds for attack in report.attacks) / processes
