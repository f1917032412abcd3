"""What a job costs, told before it is begun: passes of an image through the network, and from an earlier report their time."""

from typing import NamedTuple

from faal_core.reports.documents import AuditReport
from faal_core.specs import AuditSettings, FinetuneSpec

_TARGETS = 4  # of the margins that class offsets are found from
_CANDIDATES = 3  # weights on the way to the best epoch's
_BEGINNINGS = 3  # shares of the class offsets


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


def of_training(spec: FinetuneSpec, images: int) -> Cost:
    """Of the training alone, on so many images, those that are held out included; weight perturbation and surveys apart."""
    training = spec.training
    held_out = round(training.held_out_share * images)
    step = 2 * training.attack.steps + 2 + training.clean_forward  # forward and backward of the loss come last
    epochs = training.epochs * (images - held_out) * step + (training.epochs - 1) * _look(spec, images)
    passes = epochs + sum(around_steps(spec, images))
    return Cost(passes, passes)


def around_steps(spec: FinetuneSpec, images: int) -> tuple[int, int]:
    """Passes before the first step, for class offsets, and after the last, to judge what could be kept."""
    look, beginning, candidates = _look(spec, images), 0, 0
    if spec.begins_with_offsets:
        margins = 2 * round(spec.training.held_out_share * images) * _TARGETS * (2 * spec.training.attack.steps + 2)
        beginning = margins + _BEGINNINGS * look
    if spec.training.bounded:
        candidates = _CANDIDATES + (
            not spec.begins_with_offsets
        )  # the given weights, where they were not judged before
    return beginning, (1 + candidates) * look


def _look(spec: FinetuneSpec, images: int) -> int:
    """Passes of judging weights once on the held-out images: clean, and under APGD with twice the steps of the training."""
    return round(spec.training.held_out_share * images) * (4 * spec.training.attack.steps + 3)


def passes_of(report: AuditReport) -> int:
    """How many an audit took."""
    return sum(attack.forward + attack.backward for attack in report.attacks)


def seconds_a_pass(report: AuditReport) -> float | None:
    """How long one took there; None where the audit made none."""
    passes = passes_of(report)
    return sum(attack.seconds for attack in report.attacks) / passes if passes else None
