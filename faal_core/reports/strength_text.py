"""Write how strongly an audit attacked, how precise its rates are, and whether they may be too high."""

import math

from faal_core import catalog
from faal_core.reports.wording import sanitise
from faal_core.results.documents import AuditReport
from faal_core.results.trust import OVERSTATED
from faal_core.specs.audit import ApgdSpec, AttackSpec, AuditSpec, FabSpec, SquareSpec

_FULL = "standard"  # the preset with AutoAttack's protocol


def describe_strength(report: AuditReport) -> list[str]:
    """Return sentences for readers who know no attacks: the ensemble, each attack, the images, and the warnings."""
    return [
        describe_ensemble(report),
        *(
            f"{attack}: {_describe_effort(attack, report.classifier.spec.num_classes)}."
            for attack in report.spec.attacks
        ),
        _describe_precision(report),
        _describe_doubts(report),
    ]


def describe_ensemble(report: AuditReport) -> str:
    """Return whether the attacks are the full ensemble of the preset standard, a first look, or between the two."""
    full = f"the full ensemble of the preset {_FULL} (AutoAttack's protocol)"
    if not report.complete:
        return "The audit was stopped before every attack had tried every image: the true rates may be lower."
    if set(AuditSpec(threat=report.spec.threat, attacks=catalog.PRESETS[_FULL].attacks).attacks) <= set(
        report.spec.attacks
    ):
        return f"The attacks are {full}, or include it."
    if report.first_look:
        return "The attacks are a first look, weaker than the preset fast: the true rates may be several points lower."
    return f"The attacks are stronger than a first look. They are not {full}, which may find further images that are not robust."


def _describe_effort(attack: AttackSpec, num_classes: int) -> str:
    """Return the number of steps, targets and runs of an attack."""
    if isinstance(attack, SquareSpec):
        effort = f"{attack.queries:,} random changes of an image"
    elif isinstance(attack, ApgdSpec | FabSpec):
        targets = min(attack.targets, num_classes - 1)
        effort = f"{attack.iterations:,} steps" + (f" towards each of {targets} classes" if targets else "")
    else:
        effort = f"{attack.steps:,} steps"
    return f"{effort}, {attack.restarts} run{'' if attack.restarts == 1 else 's with different starts'}"


def _describe_precision(report: AuditReport) -> str:
    """Return the number of images of a class, and the width of the widest interval."""
    images = [row.images for row in report.classes]
    count = f"{min(images):,}" if min(images) == max(images) else f"{min(images):,} to {max(images):,}"
    width = math.ceil(100 * max(row.robust.high - row.robust.low for row in report.classes))
    return (
        f"{count} images of each class: the interval of a class's robust accuracy is up to {width} points wide. "
        "Four times as many images would make it about half as wide."
    )


def _describe_doubts(report: AuditReport) -> str:
    """Return the codes of the warnings that the rates may be far too high."""
    codes = [warning.code for warning in report.warnings]
    serious = [code for code in dict.fromkeys(codes) if code in OVERSTATED]
    if serious:
        return f"The reliability checks warn that the rates may be far too high: {', '.join(serious)}."
    others = f" They gave other warnings: {', '.join(map(sanitise, dict.fromkeys(codes)))}." if codes else ""
    return f"The reliability checks found no sign that the rates are far too high.{others}"
