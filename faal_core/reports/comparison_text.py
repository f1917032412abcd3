"""Write the sentences that summarise a comparison of audits, and a table of models."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from faal_core.reports.audit_text import caveat, name_attacks, name_worst_class
from faal_core.reports.wording import change_with_bounds, with_bounds, write_name
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport
from faal_core.results.rate_text import percent, points
from faal_core.results.trust import doubtful_codes

LISTED_CHANGES = 3  # most changes in a sentence; the table has all


class _Change(NamedTuple):
    """Describes a significant change of an accuracy.

    Args:
        doubts: codes of warnings that the higher one of the two rates may be far too high.
    """

    verdict: Literal["better", "worse"]
    name: str
    points: float
    doubts: tuple[str, ...]


def summarise_comparison(report: ComparisonReport) -> list[str]:
    """Return the findings of a comparison as sentences, the most important first."""
    rates = {row.name: row for row in report.robust.classes}
    before, after = rates[report.robust.worst_class_before], rates[report.robust.worst_class_after]
    threat = ", ".join(filter(None, (name_attacks(report.after), str(report.after.spec.threat), caveat(report.after))))
    means = [change_with_bounds(side.mean_change) for side in (report.robust, report.clean)]
    worst_before = f"{write_name(before.name)} with {percent(before.before)}"
    worst_after = f"{write_name(after.name)} with {percent(after.after)}"
    worst_change, confidence = change_with_bounds(report.robust.worst_change), f"{100 * report.confidence:g} %"
    return [
        _state_changes(report),
        f"The worst class under {threat}, was {worst_before} and is {worst_after}: {worst_change}.",
        f"Mean robust accuracy changed by {means[0]}, mean clean accuracy by {means[1]}.",
        *_state_least_provable(report),
        f"{describe_pairing(report)} All verdicts on classes and means hold together, with {confidence} confidence.",
    ]


def _state_least_provable(report: ComparisonReport) -> list[str]:
    """Return the sentence on the smallest loss of the smallest class that paired tests would find."""
    if report.reason is not None:
        return ["Unclear does not mean equal: more images show smaller changes."]
    from faal_core.results.intervals import least_provable_loss  # needs SciPy, which the other sentences do without

    images = min(row.images for row in report.after.classes)
    least = least_provable_loss(2 * len(report.robust.classes) + 2, report.confidence)
    found = f"only a loss of {least} or more is significant" if least <= images else "no change can be significant"
    return [f"Unclear does not mean equal: in a class of {images} images, {found}."]


def describe_pairing(report: ComparisonReport) -> str:
    """Return the sentence on how the audits are compared, and why they are not paired where they are not."""
    names = name_models([report.before, report.after])
    models = " and ".join(write_name(names[one.classifier.sha256], "model") for one in (report.before, report.after))
    if report.reason is None:
        return f"{models} are compared image by image, on the same {report.after.dataset.images:,} images."
    return f"{models} are compared by their counts, which shows fewer changes. {report.reason}"


def choose_tone(report: ComparisonReport) -> str:
    """Return the tone of the conclusion: good, mixed, bad or neutral; mixed where all that supports it is doubtful."""
    sure = {change.verdict for change in _list_changes(report) if not change.doubts}
    if report.outcome in ("better", "worse") and report.outcome not in sure:
        return "mixed"
    return {"better": "good", "mixed": "mixed", "worse": "bad", "unclear": "neutral"}[report.outcome]


def _list_changes(report: ComparisonReport) -> list[_Change]:
    """Return the significant changes of both accuracies, of means and classes."""
    changes: list[_Change] = []
    for kind, side, mean in (
        ("robust", report.robust, report.robust_mean),
        ("clean", report.clean, report.clean_mean),
    ):
        rows = [(mean.verdict, f"mean {kind} accuracy", side.mean_change.value)]
        rows += [
            (row.verdict, f"{kind} accuracy of {write_name(row.name)}", row.after - row.before) for row in side.classes
        ]
        doubts = {
            "worse": doubtful_codes(report.before, clean=kind == "clean"),
            "better": doubtful_codes(report.after, clean=kind == "clean"),
        }
        changes += [
            _Change(verdict, name, value, doubts[verdict]) for verdict, name, value in rows if verdict != "unclear"
        ]
    return changes


def _state_changes(report: ComparisonReport) -> str:
    """Return the sentences on all significant changes: falls first, and of each kind those beyond doubt first."""
    changes = sorted(_list_changes(report), key=lambda change: -abs(change.points))
    sentences = []
    for verdict, word, audit in (("worse", "lower", "first"), ("better", "higher", "second")):
        listed = [change for change in changes if change.verdict == verdict]
        sure, doubtful = [one for one in listed if not one.doubts], [one for one in listed if one.doubts]
        if sure:
            sentences.append(f"Significantly {word}: {_enumerate(sure)}.")
        if doubtful:
            codes = ", ".join(dict.fromkeys(code for one in doubtful for code in one.doubts))
            sentences.append(
                f"Measured {word}, but rates of the {audit} audit may be far too high ({codes}): {_enumerate(doubtful)}."
            )
    return " ".join(sentences) or "No class and no mean changed significantly."


def _enumerate(changes: Sequence[_Change]) -> str:
    """Return the first changes and the number of the others."""
    names = [f"{change.name} ({points(change.points)} points)" for change in changes[:LISTED_CHANGES]]
    more = [f"{len(changes) - LISTED_CHANGES} more"] if len(changes) > LISTED_CHANGES else []
    return ", ".join([*names, *more])


def summarise_table(table: ModelTable) -> list[str]:
    """Return the findings of a table of models as sentences: the best model of each radius, and what differs."""
    sentences, names = [], name_models(table.audits)
    for radius, audits in table.by_radius():
        best = audits[0]
        if not best.complete:
            sentences.append(f"{radius}: every audit was stopped, so there is no lower bound.")
            continue
        sentences.append(
            f"{radius}: the worst class of {write_name(names[best.classifier.sha256], 'model')} has the highest lower bound, "
            f"{percent(best.robust.worst.low)} ({name_worst_class(best)})."
        )
    return [*sentences, "The order is no test: compare two audits at a time to test a difference.", *table.differences]


def tabulate_models(table: ModelTable) -> list[list[str]]:
    """Return a row of cells for each audit, with the titles as the first row."""
    rows = [
        ["model", "radius", "worst class", "robust, worst class", "robust, mean", "clean, mean", "attacks", "images"]
    ]
    names = name_models(table.audits)
    return [*rows, *([names[audited.classifier.sha256], *_list_cells(audited)] for audited in table.audits)]


def name_models(audits: Sequence[AuditReport]) -> dict[str, str]:
    """Return the name of each model by the digest of its weights; models of one name also have the digest's beginning."""
    names = {audited.classifier.sha256: audited.classifier.name for audited in audits}
    repeated = {name for name, number in Counter(names.values()).items() if number > 1}
    return {digest: f"{name} [{digest[:8]}]" if name in repeated else name for digest, name in names.items()}


def _list_cells(audited: AuditReport) -> list[str]:
    return [
        str(audited.spec.threat),
        name_worst_class(audited),
        with_bounds(audited.robust.worst),
        with_bounds(audited.robust.mean),
        with_bounds(audited.clean.mean),
        name_attacks(audited),
        f"{audited.dataset.images:,}",
    ]
