"""A report in plain words: how rates are written, its verdict in sentences.

Class names come from strangers: `shown` takes out what could move the cursor or turn the direction of the line.
"""

import math
from collections import Counter
from collections.abc import Sequence

from faal_core.reports.documents import (
    AuditReport,
    ClassRow,
    GroupTable,
    Interval,
    Rate,
    ReliabilityWarning,
    Spread,
)
from faal_core.reports.finetune_documents import Candidate, Fall, FinetuneReport, PairedChange

LISTED_FALLS = 3  # in the first sentence of a fine-tuning's conclusions
FIRST_LOOK = "upper bound, first look"  # beside the accuracy under attacks that are weaker than the preset `fast`
LISTED_ATTACKS = 3  # a sentence with more names is not read


def shown(name: str) -> str:
    """The name with white space as blanks and every other unprintable character as U+FFFD."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in name)


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names as they are shown, a repeated one with its label, so that no two classes look like one."""
    clean = [shown(name) for name in names]
    repeated = {name for name, count in Counter(clean).items() if count > 1}
    return [f"{name} [{c}]" if name in repeated else name for c, name in enumerate(clean)]


def percent(rate: float) -> str:
    """A rate as people write it: "77.4 %"."""
    return f"{100 * rate:.1f} %"


def points(change: float) -> str:
    """A difference of two rates in percentage points, signed: "+7.2", "−0.4"."""
    return f"{round(100 * change, 1) + 0.0:+.1f}".replace("-", "−")


def bounds(estimate: Rate | Interval) -> str:
    """The interval of a rate, in per cent: "32.1–44.2"."""
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"


def with_bounds(estimate: Rate | Interval) -> str:
    """A rate with its interval: "38.0 % (32.1–44.2)"."""
    return f"{percent(estimate.rate if isinstance(estimate, Rate) else estimate.value)} ({bounds(estimate)})"


def change_bounds(change: Interval) -> str:
    """The interval of a change, in points: "+2.1 to +12.3"."""
    return f"{points(change.low)} to {points(change.high)}"


def change_with_bounds(change: Interval) -> str:
    """A change with its interval: "+7.2 points (+2.1 to +12.3)"."""
    return f"{points(change.value)} points ({change_bounds(change)})"


def p_value(p: float) -> str:
    """A p-value to three places: "0.012", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def time_left(seconds: float) -> str:
    """How long the rest takes at most: "at most 50 s left", "at most 12 min left", "at most 3 h 5 min left"."""
    if seconds < 60:
        return f"at most {math.ceil(seconds)} s left"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"at most {f'{hours} h {minutes}' if hours else minutes} min left"


def worst_first(rows: Sequence[ClassRow]) -> list[int]:
    """The places of those classes or groups, lowest robust accuracy first; ties stay in their order."""
    return sorted(range(len(rows)), key=lambda row: rows[row].robust.rate)


def after_attacks(report: AuditReport) -> list[float]:
    """The share of all images that are right after each attack and those before it."""
    columns = zip(*(row.after_attack for row in report.classes), strict=True)
    return [sum(rate.count for rate in column) / report.dataset.images for column in columns]


def weakest_before(report: FinetuneReport) -> PairedChange:
    """The change of the class that was least robust before."""
    comparison = report.robust
    return next(row for row in comparison.classes if row.name == comparison.worst_class_before)


def verdict(report: AuditReport | FinetuneReport) -> list[str]:
    """What was found, with numbers and intervals, as sentences; the first alone says the most important."""
    return _audit_verdict(report) if isinstance(report, AuditReport) else _finetune_verdict(report)


def _audit_verdict(report: AuditReport) -> list[str]:
    robust, attacks = report.robust, attacks_named(report)
    average, worst = with_bounds(robust.mean), with_bounds(robust.worst)
    if robust.mean.count == 0:
        return [
            f"Accuracy under {attacks} is {average}: no image of any class is robust.",
            "Classes without a robust image cannot be compared.",
            _confidence(report),
        ]
    caveat = f" ({FIRST_LOOK})" if report.first_look else ""
    sentences = [
        f"Accuracy under {attacks} is {average} on average and {worst} in the worst class, {shown(robust.worst_class)}{caveat}."
    ]
    if report.first_look:
        sentences.append(
            "Stronger attacks may lower it by several points: audit with the preset fast before you rely on it."
        )
    sentences.append(
        f"The mean of the classes is {100 * robust.gap.value:.1f} points above the worst class; {_by_chance(robust)}."
    )
    return [*sentences, _confidence(report)]


def attacks_named(report: AuditReport) -> str:
    """Return the attacks in a few words: the attack's name, the preset's, up to three names, or their number."""
    names = [attack.name for attack in report.attacks]
    if len(names) == 1:
        return shown(names[0])
    if report.spec.preset:
        return f"the preset {report.spec.preset}"
    if len(names) > LISTED_ATTACKS:
        return f"{len(names)} attacks"
    return f"{', '.join(map(shown, names[:-1]))} and {shown(names[-1])}"


def _finetune_verdict(report: FinetuneReport) -> list[str]:
    before, after = report.before.robust, report.after.robust
    if report.outcome == "kept-original":
        return [_kept_original(report), *_audit_verdict(report.before)]
    was, became = (f"{with_bounds(spread.worst)}, {shown(spread.worst_class)}" for spread in (before, after))
    tally = Counter(row.verdict for row in report.robust.classes)
    clean = _way(report.before.clean, report.after.clean)
    gaps = f"from {100 * before.gap.value:.1f} to {100 * after.gap.value:.1f} points"
    caveat = f" ({FIRST_LOOK})" if report.after.first_look else ""
    return [
        _conclusion(report),
        f"Under {attacks_named(report.after)} the accuracy of the worst class went from {was}, to {became}{caveat}.",
        f"Average robust accuracy went {_way(before, after)}, {change_with_bounds(report.robust.mean_change)}.",
        f"Average clean accuracy went {clean}, {change_with_bounds(report.clean.mean_change)}.",
        f"Classes by robust accuracy: {tally['better']} better, {tally['worse']} worse, {tally['unclear']} unclear.",
        f"Kept are {kept(report)}.",
        f"The lead of the classes' mean over the worst class went {gaps}; {_by_chance(after)}.",
        _confidence(report.after),
    ]


def _conclusion(report: FinetuneReport) -> str:
    """Say what became of the class that was worst, and what fell significantly: first what is most important."""
    change = weakest_before(report)
    verbs = {"better": "is more robust", "worse": "is less robust", "unclear": "shows no clear change"}
    images = f"{change.gained} images gained, {change.lost} lost, p (Holm) {p_value(change.p_adjusted)}"
    moved = f"{points(change.after - change.before)} points ({images})"
    worst = f"{shown(change.name)}, the worst class before, {verbs[change.verdict]}: {moved}"
    fallen = _fallen(report.falls)
    if not fallen:
        return f"{worst}; no accuracy fell significantly."
    if report.outcome == "worse":
        return f"Significantly lower than before: {fallen}. {worst}."
    return f"{worst}; significantly lower than before: {fallen}."


def _fallen(falls: Sequence[Fall]) -> str:
    """List the largest falls, "mean clean accuracy (−3.1 points)", and count the others."""
    listed = [
        f"{fall.accuracy} accuracy of {shown(fall.name)} ({points(fall.change)} points)"
        if fall.name is not None
        else f"mean {fall.accuracy} accuracy ({points(fall.change)} points)"
        for fall in falls[:LISTED_FALLS]
    ]
    more = len(falls) - LISTED_FALLS
    return ", ".join([*listed, *([f"{more} more"] if more > 0 else [])])


def _kept_original(report: FinetuneReport) -> str:
    """Say that no new weights were made, and within which bounds they were looked for."""
    return (
        f"The original weights are kept: of {len(report.candidates)} candidates, none within the bounds "
        f"({training_bounds(report)}) makes the worst class more robust on held-out images."
    )


def training_bounds(report: FinetuneReport) -> str:
    """List the spec's bounds on what accuracies may lose; empty where there are none."""
    training = report.spec.training
    drops = {
        "mean robust accuracy": training.max_robust_drop,
        "mean clean accuracy": training.max_clean_drop,
        "accuracy of every class": training.max_class_drop,
    }
    return ", ".join(f"{name} −{100 * drop:g} points" for name, drop in drops.items() if drop is not None)


def tone(report: FinetuneReport) -> str:
    """Name the colour of a fine-tuning's outcome: good, mixed, bad or neutral. Good only where nothing fell significantly."""
    tones = {"better": "good", "mixed": "mixed", "worse": "bad", "unclear": "neutral", "kept-original": "neutral"}
    return "mixed" if report.outcome == "better" and report.falls else tones[report.outcome]


def kept(report: FinetuneReport) -> str:
    """Which weights were kept, as half a sentence."""
    epoch = f"epoch {report.selected_epoch} of {len(report.epochs)}"
    offsets = f"{percent(report.selected_offsets)} of the class offsets"
    given = f"the given weights with {offsets}" if report.selected_offsets else "the weights as they were given"
    if report.selected_share == 0:
        return f"{given}, since {epoch} did no better within the bounds"
    if report.selected_share == 1:
        return f"the weights of {epoch}" + (f", which began with {offsets}" if report.selected_offsets else "")
    beginning = f"the given ones with {offsets}" if report.selected_offsets else "the given ones"
    return f"the weights {percent(report.selected_share)} of the way from {beginning} to those of {epoch}"


def is_kept(one: Candidate, report: FinetuneReport) -> bool:
    """Tell whether those weights are the ones that the fine-tuning kept."""
    return (one.share, one.offsets) == (report.selected_share, report.selected_offsets)


def candidate_label(one: Candidate) -> str:
    """Describe a candidate's weights: "as given", "50% of the way", "best epoch"."""
    first = {0.0: "as given", 1.0: "class offsets"}.get(one.offsets, f"{one.offsets:.0%} of the offsets")
    return {0.0: first, 1.0: "best epoch"}.get(one.share, f"{one.share:.0%} of the way")


def _way(before: Spread, after: Spread) -> str:
    return f"from {percent(before.mean.rate)} to {percent(after.mean.rate)}"


def _confidence(report: AuditReport) -> str:
    return f"Intervals have {100 * report.spec.confidence:g} % confidence."


def group_verdict(table: GroupTable) -> str:
    """Whether the groups of that column are unequally robust, in a sentence."""
    robust = table.robust
    least = f"{shown(robust.worst_class)}, {with_bounds(robust.worst)}"
    return f"Least robust is {least}, {100 * robust.gap.value:.1f} points below the groups' mean; {_by_chance(robust, 'groups')}."


def _by_chance(spread: Spread, kind: str = "classes") -> str:
    """Return what equal classes would show, and so whether these are unequal."""
    if spread.mean.count == 0:
        return f"{kind} without a robust image cannot be compared"
    found = {
        "unequal": "unequal",
        "no-evidence": "no evidence that they are unequal",
        "at-chance": "no evidence that they are unequal, but a classifier that gives every image the same class may be as robust",
    }[spread.verdict]
    return f"equal {kind} would show up to {100 * spread.gap_by_chance:.1f} by chance: {found}"


def warnings(report: AuditReport | FinetuneReport) -> list[tuple[str, ReliabilityWarning]]:
    """List the report's warnings, each with the audit it is from: "before", "after", or "" for the report as a whole."""
    if isinstance(report, AuditReport):
        return [("", warning) for warning in [*_stopped(report), *report.warnings]]
    audits = {"before": report.before, "after": report.after}
    if report.outcome == "kept-original":
        del audits["after"]  # the same audit
    of_audits = [(when, one) for when, audit in audits.items() for one in [*_stopped(audit), *audit.warnings]]
    return [*(("", warning) for warning in report.warnings), *of_audits]


def _stopped(report: AuditReport) -> list[ReliabilityWarning]:
    """The sign that attacks are missing, where they are."""
    if report.complete:
        return []
    unfinished = (
        f"{attack.name} on {attack.untried:,} of {attack.tried:,} images" for attack in report.attacks if attack.untried
    )
    return [
        ReliabilityWarning(
            code="audit-stopped",
            message="The audit was stopped before every attack was made on every image it was due on, so the true "
            "robust accuracy may be lower still.",
            evidence=f"not finished: {'; '.join(unfinished)}",
            advice="Resume it, or read its robust rates as upper bounds only.",
        )
    ]


def training_cut(report: FinetuneReport) -> str:
    """What of its training was not made because the time was over; empty where all was."""
    asked, made = report.spec.training.epochs, sum(epoch.share for epoch in report.epochs)
    return "" if made == asked else f"Training ended after {made:.2f} of {asked} epochs: its time was over."
