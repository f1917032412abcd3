"""An audit's verdict in sentences, and how its attacks and its worst class are called."""

from faal_core.reports.wording import named, percent, shown, with_bounds
from faal_core.results.documents import AttackRow, AuditReport, GroupTable, Rate, Spread

FIRST_LOOK = "upper bound, first look"  # beside the accuracy under attacks that are weaker than the preset `fast`
UNFINISHED = "upper bound, attacks unfinished"  # beside the robust accuracy of an audit that was stopped
LISTED_ATTACKS = 3  # a sentence with more names is not read


def audit_verdict(report: AuditReport) -> list[str]:
    """Return the sentences of an audit's verdict, the most important first."""
    robust, attacks = report.robust, attacks_named(report)
    average = with_bounds(robust.mean)
    if robust.mean.count == 0:
        return [
            f"Accuracy under {attacks} is {average}: no image of any class is robust.",
            "Classes without a robust image cannot be compared.",
            confidence(report),
        ]
    if not report.complete:
        return [_bound(report), confidence(report)]
    caveat = f" ({FIRST_LOOK})" if report.first_look else ""
    sentences = [
        f"Accuracy under {attacks} is {average} on average and {with_bounds(robust.worst)} {in_worst_class(report)}{caveat}."
    ]
    if report.first_look:
        sentences.append(
            "Stronger attacks may lower it by several points: audit with the preset fast before you rely on it."
        )
    sentences.append(
        f"The mean of the classes is {100 * robust.gap.value:.1f} points above the worst class; {by_chance(robust)}."
    )
    return [*sentences, confidence(report)]


def _bound(report: AuditReport) -> str:
    """Say what the attacks that were made leave possible."""
    mean, worst = percent(report.robust.mean.rate), f"{percent(report.robust.worst.value)} {in_worst_class(report)}"
    attacks = attacks_named(report)
    if no_attack_ran(report):
        return f"No attack was run: accuracy under {attacks} is at most {mean} on average and {worst}, as without an attack."
    unfinished = sum(attack.untried > 0 for attack in report.attacks)
    verb = "is" if unfinished == 1 else "are"
    which = "the attack is" if len(report.attacks) == 1 else f"{unfinished} of {len(report.attacks)} attacks {verb}"
    return f"At most {mean} of the images are robust under {attacks}, and at most {worst}: {which} unfinished."


def no_attack_ran(report: AuditReport) -> bool:
    """Tell whether the audit was stopped before any attack was made on any image."""
    return not report.complete and not any(attack.forward for attack in report.attacks)


def caveat(report: AuditReport) -> str:
    """Return what to add to the report's robust accuracies: that they are bounds, and why; empty where neither holds."""
    return UNFINISHED if not report.complete else FIRST_LOOK if report.first_look else ""


def worst_classes(report: AuditReport) -> list[str]:
    """List the classes of the lowest robust accuracy: more than one where several are equally robust."""
    return [row.name for row in report.classes if row.robust.rate == report.robust.worst.value]


def worst_place(report: AuditReport) -> str:
    """Name the class of the lowest robust accuracy, or count the classes that share it: "shirt", "in 9 classes"."""
    tied = len(worst_classes(report))
    if tied < 2:
        return named(report.robust.worst_class)
    return f"in all {tied} classes" if tied == len(report.classes) else f"in {tied} classes"


def in_worst_class(report: AuditReport) -> str:
    """Return the same after a rate: "in the worst class, shirt", "in 9 classes"."""
    place = worst_place(report)
    return place if len(worst_classes(report)) > 1 else f"in the worst class, {place}"


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


def attack_key(report: AuditReport) -> list[str]:
    """List the names of the numbered attack columns: "1: APGD-20 (cross-entropy)"."""
    return [f"{number}: {shown(attack.name)}" for number, attack in enumerate(report.attacks, start=1)]


def after_attacks(report: AuditReport) -> list[str]:
    """Return the share of all images that are right after each attack and those before it, for a table's last row."""
    columns = zip(*(row.after_attack for row in report.classes), strict=True)
    return attacked_cells(report, [sum(rate.count for rate in column) / report.dataset.images for column in columns])


def attacked_cells(report: AuditReport, rates: tuple[Rate, ...] | list[float]) -> list[str]:
    """Return the cells of a table's columns of attacks: rates, and a dash for an attack that was made on no image."""
    plain = [rate.rate if isinstance(rate, Rate) else rate for rate in rates]
    return ["–" if _untried(report.attacks, k) else percent(rate) for k, rate in enumerate(plain)]


def _untried(attacks: tuple[AttackRow, ...], k: int) -> bool:
    """Tell whether the audit was stopped before the attack of that number was made on any image."""
    return not attacks[k].forward and any(attack.untried for attack in attacks[: k + 1])


def group_verdict(table: GroupTable) -> str:
    """Return whether the groups of that column are unequally robust, in a sentence."""
    robust = table.robust
    least = f"{named(robust.worst_class, 'group')}, {with_bounds(robust.worst)}"
    return f"Least robust is {least}, {100 * robust.gap.value:.1f} points below the groups' mean; {by_chance(robust, 'groups')}."


def by_chance(spread: Spread, kind: str = "classes") -> str:
    """Return what equal classes would show, and so whether these are unequal."""
    if spread.mean.count == 0:
        return f"{kind} without a robust image cannot be compared"
    found = {
        "unequal": "unequal",
        "no-evidence": "no evidence that they are unequal",
        "at-chance": "no evidence that they are unequal, but a classifier that gives every image the same class may be as robust",
    }[spread.verdict]
    return f"equal {kind} would show up to {100 * spread.gap_by_chance:.1f} by chance: {found}"


def confidence(report: AuditReport) -> str:
    """Return the sentence on the confidence of the intervals."""
    return f"Intervals have {100 * report.spec.confidence:g} % confidence."
