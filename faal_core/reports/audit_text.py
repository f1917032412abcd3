"""Write the sentences that summarise an audit, and name its attacks and its worst class."""

from faal_core.reports.wording import bounds, sanitise, with_bounds, write_name
from faal_core.results.documents import AttackRow, AuditReport, GroupTable, Rate, Spread
from faal_core.results.rate_text import percent

FIRST_LOOK = "upper bound, first look"  # beside the accuracy under attacks that are weaker than the preset `fast`
UNFINISHED = "upper bound, attacks unfinished"  # beside the robust accuracy of an audit that was stopped
LISTED_ATTACKS = LISTED_CLASSES = 3  # most names in a sentence; readers skip longer lists


def summarise_audit(report: AuditReport) -> list[str]:
    """Return the sentences that summarise an audit, the most important first."""
    robust, attacks = report.robust, name_attacks(report)
    average = with_bounds(robust.mean)
    if robust.mean.count == 0:
        return [
            *describe_decision(report),
            f"Accuracy under {attacks} is {average}: no image of any class is robust.",
            "Classes without a robust image cannot be compared.",
            *describe_escalation(report),
            state_confidence(report),
        ]
    if not report.complete:
        return [
            *describe_decision(report),
            _state_bound(report),
            *describe_escalation(report),
            state_confidence(report),
        ]
    caveat = f" ({FIRST_LOOK})" if report.first_look else ""
    sentences = [
        *describe_decision(report),
        f"Accuracy under {attacks} is {average} on average and {with_bounds(robust.worst)} {locate_worst_class(report)}{caveat}.",
    ]
    if report.first_look:
        sentences.append(
            "Stronger attacks may lower it by several points: audit with the preset fast before you rely on it."
        )
    sentences.append(
        f"The mean of the classes is {100 * robust.gap.value:.1f} points above the worst class; {judge_gap(robust)}."
    )
    return [*sentences, *describe_escalation(report), state_confidence(report)]


def describe_escalation(report: AuditReport) -> list[str]:
    """Return the sentences on what followed warnings about gradients; none where nothing did."""
    if report.escalation is None:
        return []
    sentences = []
    if (draws := report.escalation.draws) > 1:
        sentences.append(f"The network's outputs are random, so the mean logits of {draws} draws predict each image.")
    if further := list_escalation(report):
        before, broken = (
            report.clean.mean.count - sum(row.broken for row in report.attacks),
            sum(row.broken for row in further),
        )
        subject = "a further attack" if len(further) == 1 else f"{len(further)} further attacks"
        left = f"{broken:,} of the {before + broken:,} images that were still robust"
        sentences.append(f"After warnings about gradients, {subject} broke {left}.")
    return sentences


def list_escalation(report: AuditReport) -> tuple[AttackRow, ...]:
    """Return the attacks that followed warnings about gradients."""
    return report.attacks[len(report.spec.attacks) :] if report.escalation else ()


def describe_decision(report: AuditReport) -> list[str]:
    """Return the sentences on what a sequential audit decided, and on how many images; none for an audit of all images."""
    if report.sequential is None:
        return []
    result, counts = report.sequential, f"{report.dataset.images:,} of {report.sequential.available:,} images"
    missed = [write_name(one.name) for one in result.classes if one.status == "fail"]
    undecided = sum(one.status == "undecided" for one in result.classes)
    if result.status == "pass":
        return [f"Every class reaches its limit of robust accuracy, decided on {counts}."]
    if result.status == "fail":
        few = len(missed) <= LISTED_CLASSES
        subject = ", ".join(missed) if few else f"{len(missed)} classes"
        return [f"The audit ended after {counts}, because the limit of robust accuracy is missed by {subject}."]
    reason = "the audit was stopped" if result.ended_by == "time" else "no more images are left"
    verb = "is" if undecided == 1 else "are"
    return [f"{undecided} of {len(result.classes)} classes {verb} undecided after {counts}: {reason}."]


def _state_bound(report: AuditReport) -> str:
    """Return the sentence on the largest robust accuracy that unfinished attacks leave possible."""
    mean, worst = percent(report.robust.mean.rate), f"{percent(report.robust.worst.value)} {locate_worst_class(report)}"
    attacks = name_attacks(report)
    if no_attack_ran(report):
        return f"No attack was run: accuracy under {attacks} is at most {mean} on average and {worst}, as without an attack."
    unfinished = sum(attack.untried > 0 for attack in report.attacks)
    verb = "is" if unfinished == 1 else "are"
    subject = "the attack is" if len(report.attacks) == 1 else f"{unfinished} of {len(report.attacks)} attacks {verb}"
    return f"At most {mean} of the images are robust under {attacks}, and at most {worst}: {subject} unfinished."


def no_attack_ran(report: AuditReport) -> bool:
    """Return whether the audit was stopped before any attack ran on any image."""
    return not report.complete and not any(attack.forward for attack in report.attacks)


def caveat(report: AuditReport) -> str:
    """Return the remark that the report's robust accuracies are bounds, and why; empty where they are final."""
    return UNFINISHED if not report.complete else FIRST_LOOK if report.first_look else ""


def list_worst_classes(report: AuditReport) -> list[str]:
    """Return the classes of the lowest robust accuracy; several where they are equally robust."""
    return [row.name for row in report.classes if row.robust.rate == report.robust.worst.value]


def name_worst_class(report: AuditReport) -> str:
    """Return the class of the lowest robust accuracy, or the number of classes that share it: "shirt", "in 9 classes"."""
    tied = len(list_worst_classes(report))
    if tied < 2:
        return write_name(report.robust.worst_class)
    return f"in all {tied} classes" if tied == len(report.classes) else f"in {tied} classes"


def locate_worst_class(report: AuditReport) -> str:
    """Return the worst class as it follows a rate: "in the worst class, shirt", "in 9 classes"."""
    place = name_worst_class(report)
    return place if len(list_worst_classes(report)) > 1 else f"in the worst class, {place}"


def name_attacks(report: AuditReport) -> str:
    """Return the attacks in a few words: the attack's name, the preset's, up to three names, or their number."""
    names = [attack.name for attack in report.attacks]
    if len(names) == 1:
        return sanitise(names[0])
    if report.spec.preset:
        further = list_escalation(report)
        ending = f" and {len(further)} further attack{'' if len(further) == 1 else 's'}" if further else ""
        return f"the preset {report.spec.preset}{ending}"
    if len(names) > LISTED_ATTACKS:
        return f"{len(names)} attacks"
    return f"{', '.join(map(sanitise, names[:-1]))} and {sanitise(names[-1])}"


def attack_key(report: AuditReport) -> list[str]:
    """Return the names of the numbered attack columns: "1: APGD-20 (cross-entropy)"."""
    own = len(report.attacks) - len(list_escalation(report))
    names = [f"{number}: {sanitise(attack.name)}" for number, attack in enumerate(report.attacks, start=1)]
    return [*names[:own], *(f"{name} (after warnings)" for name in names[own:])]


def after_attacks(report: AuditReport) -> list[str]:
    """Return the accuracy over all images after each attack and those before it, for a table's last row."""
    columns = zip(*(row.after_attack for row in report.classes), strict=True)
    return attacked_cells(report, [sum(rate.count for rate in column) / report.dataset.images for column in columns])


def certified_mean(report: AuditReport) -> float:
    """Return the fraction of all images that are certified; 0 where no bounds were computed."""
    return sum(row.certified.count for row in report.classes if row.certified) / report.dataset.images


def attacked_cells(report: AuditReport, rates: tuple[Rate, ...] | list[float]) -> list[str]:
    """Return the cells of a table's attack columns: rates, and a dash for an attack that ran on no image."""
    plain = [rate.rate if isinstance(rate, Rate) else rate for rate in rates]
    return ["–" if _is_untried(report.attacks, k) else percent(rate) for k, rate in enumerate(plain)]


def _is_untried(attacks: tuple[AttackRow, ...], k: int) -> bool:
    """Return whether the audit was stopped before attack `k` ran on any image."""
    return not attacks[k].forward and any(attack.untried for attack in attacks[: k + 1])


def summarise_group(table: GroupTable) -> str:
    """Return the sentence on whether the groups of one column are unequally robust."""
    robust = table.robust
    least = f"{write_name(robust.worst_class, 'group')}, {with_bounds(robust.worst)}"
    distance = f"{100 * robust.gap.value:.1f} points below the groups' mean"
    return f"The least robust group is {least}, {distance}; {judge_gap(robust, 'groups')}."


def judge_gap(spread: Spread, kind: str = "classes") -> str:
    """Return what equal classes would show by chance, and so whether these classes are unequal."""
    if spread.mean.count == 0:
        return f"{kind} without a robust image cannot be compared"
    conclusion = {
        "unequal": "unequal",
        "no-evidence": "no evidence that they are unequal",
        "at-chance": "no evidence that they are unequal, but a classifier that gives every image the same class may be as robust",
    }[spread.verdict]
    if spread.gap_by_chance is None:
        return f"its interval is {bounds(spread.gap)} points: {conclusion}"
    return f"equal {kind} would show up to {100 * spread.gap_by_chance:.1f} by chance: {conclusion}"


def state_confidence(report: AuditReport) -> str:
    """Return the sentence on the confidence of the intervals."""
    number = "" if report.sequential is None else " at every number of images together"
    return f"Intervals have {100 * report.spec.confidence:g} % confidence{number}."
