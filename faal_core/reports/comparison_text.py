"""Write the sentences that summarise a comparison of audits, and a table of models."""

from collections import Counter
from collections.abc import Sequence

from faal_core.reports.audit_text import name_attacks, name_worst_class
from faal_core.reports.wording import change_with_bounds, with_bounds, write_name
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport
from faal_core.results.rate_text import percent, points

LISTED_CHANGES = 3  # most changes in a sentence; the table has all

Row = tuple[str, str, float]


def summarise_comparison(report: ComparisonReport) -> list[str]:
    """Return the findings of a comparison as sentences, the most important first."""
    before, after = report.before.robust, report.after.robust
    robust_change = report.robust.worst_change
    worst_before, worst_after = (
        f"{write_name(side.worst_class)} with {percent(side.worst.value)}" for side in (before, after)
    )
    threat = f"{name_attacks(report.after)}, {report.after.spec.threat},"
    means = [change_with_bounds(side.mean_change) for side in (report.robust, report.clean)]
    return [
        _state_changes(report),
        f"The worst class under {threat} was {worst_before} and is {worst_after}: {change_with_bounds(robust_change)}.",
        f"Mean robust accuracy changed by {means[0]}, mean clean accuracy by {means[1]}.",
        f"{describe_pairing(report)} All verdicts hold together with {100 * report.confidence:g} % confidence.",
    ]


def describe_pairing(report: ComparisonReport) -> str:
    """Return the sentence on how the audits are compared, and why they are not paired where they are not."""
    if report.reason is None:
        return f"The audits are compared image by image, on the same {report.after.dataset.images:,} images."
    return f"{report.reason} So the audits are compared by their counts, which shows fewer changes."


def _state_changes(report: ComparisonReport) -> str:
    """Return the sentence on all significant changes, falls first."""
    changes: list[Row] = []
    for kind, side, mean in (
        ("robust", report.robust, report.robust_mean),
        ("clean", report.clean, report.clean_mean),
    ):
        changes += [(mean.verdict, f"mean {kind} accuracy", side.mean_change.value)]
        changes += [
            (row.verdict, f"{kind} accuracy of {write_name(row.name)}", row.after - row.before) for row in side.classes
        ]
    sentences = []
    for verdict, word in (("worse", "lower"), ("better", "higher")):
        listed = sorted((row for row in changes if row[0] == verdict), key=lambda row: -abs(row[2]))
        if listed:
            names = [f"{name} ({points(change)} points)" for _, name, change in listed[:LISTED_CHANGES]]
            more = [f"{len(listed) - LISTED_CHANGES} more"] if len(listed) > LISTED_CHANGES else []
            sentences.append(f"Significantly {word}: {', '.join([*names, *more])}.")
    return " ".join(sentences) or "No class and no mean changed significantly."


def summarise_table(table: ModelTable) -> list[str]:
    """Return the findings of a table of models as sentences: the best model of each radius, and what differs."""
    sentences, names = [], name_models(table.audits)
    for radius, audits in table.by_radius():
        best = audits[0]
        sentences.append(
            f"{radius}: the worst class of {write_name(names[best.classifier.sha256], 'model')} has the highest lower bound, "
            f"{percent(best.robust.worst.low)} ({name_worst_class(best)})."
        )
    return [*sentences, *table.differences]


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
