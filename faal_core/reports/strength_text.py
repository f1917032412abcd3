"""Write how strongly an audit attacked, how precise its rates are, and whether they may be too high."""

import math

from faal_core import catalog
from faal_core.reports.wording import sanitise
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.trust import OVERSTATED
from faal_core.specs.attacks import ApgdSpec, AttackSpec, FabSpec, SquareSpec, TransferSpec
from faal_core.specs.audit import AuditSpec

_FULL = "standard"  # the preset with AutoAttack's protocol


def describe_strength(report: AuditReport) -> list[str]:
    """Return sentences for readers who know no attacks: the ensemble, each attack, the images, and the warnings."""
    return [
        describe_ensemble(report),
        *_explain_preset(report),
        *_describe_attacks(report),
        *_summarise_work(report),
        *describe_restrictions(report),
        _describe_precision(report),
        _describe_doubts(report),
    ]


def describe_ensemble(report: AuditReport) -> str:
    """Return whether the attacks are the full ensemble of the preset standard, a first look, or between the two."""
    full = f"the full ensemble of the preset {_FULL} (AutoAttack's protocol, with which published numbers are compared)"
    if not report.complete:
        return "The audit was stopped before every attack had tried every image: the true rates may be lower."
    if set(AuditSpec(threat=report.spec.threat, attacks=catalog.PRESETS[_FULL].attacks).attacks) <= set(
        report.attack_specs
    ):
        return f"The attacks are {full}, or include it."
    if report.first_look:
        return "The attacks are a first look, weaker than the preset fast: the true rates may be several points lower."
    return (
        "The attacks are stronger than a first look: at least one is as thorough as the targeted attacks of the preset fast. "
        f"They are not {full}, which may find further images that are not robust."
    )


def describe_restrictions(report: AuditReport) -> list[str]:
    """Return the sentence on attacks that by design tried only some of the images that were still robust; none without one."""
    left = report.clean.mean.count
    places: list[str] = []
    for number, (spec, row) in enumerate(_pair_attacks(report), start=1):
        if spec.margin_left is not None:
            images = f"{left:,}" if places else f"the {left:,} images that were still robust"
            places.append(f"attack {number} tried {row.tried:,} of {images}")
        left -= row.broken
    if not places:
        return []
    return [
        f"By design, an attack with a margin limit tries only images that earlier attacks nearly broke: {_join(places)}."
    ]


def _explain_preset(report: AuditReport) -> list[str]:
    """Return what the name of the preset means, if the attacks are a preset."""
    preset = report.spec.preset
    return (
        [] if preset is None else [f"A preset is a fixed list of attacks. The preset {preset} has the attacks below."]
    )


def _pair_attacks(report: AuditReport) -> list[tuple[AttackSpec, AttackRow]]:
    """Return the attacks of the spec with their counts."""
    return list(zip(report.attack_specs, report.attacks, strict=False))  # a stranger's report may have fewer rows


def _describe_attacks(report: AuditReport) -> list[str]:
    """Return a sentence on each attack: its effort, and the images that it tried and broke."""
    classes = report.classifier.spec.num_classes
    lines = []
    for number, (spec, row) in enumerate(_pair_attacks(report), start=1):
        rest = f", did not finish {row.untried:,} of them" if row.untried else ""
        counts = f"Tried on {_count_images(row.tried)}{rest}, broke {row.broken:,}."
        reason = _describe_reason(report, number - 1 - len(report.spec.attacks))
        lines.append(f"Attack {number}, {sanitise(str(spec))}: {_describe_effort(spec, classes)}. {reason}{counts}")
    return lines


def _describe_reason(report: AuditReport, step: int) -> str:
    """Return the sentence on the warnings that led to a step of the escalation; empty for an attack of the spec."""
    if step < 0 or report.escalation is None:
        return ""
    codes = report.escalation.steps[step].warnings
    return f"Due to the warning{'' if len(codes) == 1 else 's'} {_join([sanitise(code) for code in codes])}. "


def _count_images(images: int) -> str:
    return f"{images:,} image{'' if images == 1 else 's'}"


def _join(parts: list[str]) -> str:
    """Return the parts as a list in a sentence: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _summarise_work(report: AuditReport) -> list[str]:
    """Return which attacks broke images, and how many images attacks without gradients tried."""
    rows = _pair_attacks(report)
    total = sum(row.broken for _, row in rows)
    work = [f"{row.broken:,} by attack {number}" for number, (_, row) in enumerate(rows, start=1) if row.broken]
    idle = [str(number) for number, (_, row) in enumerate(rows, start=1) if not row.broken]
    lines = [f"Together they broke {_count_images(total)}{f': {_join(work)}' if work else ''}."]
    if work and idle:
        lines[0] += f" {'Attack' if len(idle) == 1 else 'Attacks'} {_join(idle)} broke none."
    free = [(number, row) for number, (spec, row) in enumerate(rows, start=1) if isinstance(spec, SquareSpec)]
    others = [
        str(number)
        for number, (spec, _) in enumerate(rows, start=1)
        if isinstance(spec, TransferSpec) and spec.source.sha256 != report.classifier.sha256
    ]
    if others:
        subject = f"Attack {others[0]} follows" if len(others) == 1 else f"Attacks {_join(others)} follow"
        lines.append(f"{subject} the gradients of another network, which this classifier cannot hide.")
    elif not free:
        lines.append("Every attack used gradients, so a classifier that hides its gradients can look robust.")
    if free and len(free) < len(rows):
        tried = _join([f"attack {number}, which tried {_count_images(row.tried)}" for number, row in free])
        lines.append(
            f"Only {'one attack works' if len(free) == 1 else f'{len(free)} attacks work'} without gradients: {tried}."
        )
    return [" ".join(lines)]


def _describe_effort(attack: AttackSpec, num_classes: int) -> str:
    """Return the number of steps, targets and runs of an attack."""
    if isinstance(attack, SquareSpec):
        effort = f"{attack.queries:,} random changes of an image"
    elif isinstance(attack, ApgdSpec | FabSpec | TransferSpec):
        targets = min(attack.targets, num_classes - 1)
        effort = f"{attack.iterations:,} steps" + (f" towards each of {targets} classes" if targets else "")
        effort += f" by the gradients of {sanitise(str(attack.source))}" if isinstance(attack, TransferSpec) else ""
    else:
        effort = f"{attack.steps:,} steps"
    return f"{effort}, {attack.restarts} run{'' if attack.restarts == 1 else 's with different starts'}"


def _describe_precision(report: AuditReport) -> str:
    """Return the number of images of a class, and the width of the widest interval, unless the audit was stopped."""
    images = [row.images for row in report.classes]
    count = f"{min(images):,}" if min(images) == max(images) else f"{min(images):,} to {max(images):,}"
    if not report.complete:  # the interval covers the choice of the images, not attacks that were not finished
        return f"{count} images of each class."
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
    others = f" Other warnings were recorded: {', '.join(map(sanitise, dict.fromkeys(codes)))}." if codes else ""
    return (
        f"No warning was recorded that the rates are far too high.{others} A classifier without a warning can still hide its "
        "gradients. FAAL's guide lists the checks: Explanation, Attacks and trust checks."
    )
