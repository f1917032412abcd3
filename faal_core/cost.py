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
    """Of an audit of so many images; likely is that as great a part of it is needed as was of the earlier one."""
    images = min(images, spec.images or images)
    most = images * (1 + sum(attack.passes(num_classes) for attack in spec.attacks))
    if earlier is None:
        return Cost(most, most)
    possible = of_audit(earlier.spec, earlier.dataset.images, num_classes).most
    return Cost(most, most * min(passes_of(earlier) / possible, 1.0))


def of_training(spec: FinetuneSpec, images: int) -> Cost:
    """Of the training alone, on so many images, those that are held out included; weight perturbation and surveys apart."""
    training = spec.training
    held_out = round(training.held_out_share * images)
    attack = 2 * training.attack.steps
    step = attack + 2 + training.clean_forward  # and backward and forward of the loss
    looks = training.epochs + (_CANDIDATES if training.mean_may_fall is not None else 0)
    offsets = 0
    if spec.begins_with_offsets:
        looks += _BEGINNINGS
        offsets = 2 * held_out * _TARGETS * (attack + 2)
    judged = held_out * looks * (2 * attack + 3)
    passes = training.epochs * (images - held_out) * step + judged + offsets
    return Cost(passes, passes)


def passes_of(report: AuditReport) -> int:
    """How many an audit took."""
    return sum(attack.forward + attack.backward for attack in report.attacks)


def seconds_a_pass(report: AuditReport) -> float | None:
    """How long one took there; None where the audit made none."""
    passes = passes_of(report)
    return sum(attack.seconds for attack in report.attacks) / passes if passes else None
