"""Write the section of a model card: results, classes, scope and limits, in Markdown."""

from collections.abc import Iterator, Sequence

from faal_core.exports.facts import SourceReport
from faal_core.exports.markdown import escape, write_table
from faal_core.reports.audit_text import caveat, name_attacks, name_worst_class, summarise_group
from faal_core.reports.text import verdict, warnings
from faal_core.reports.wording import p_value, with_bounds, worst_first
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.rate_text import points
from faal_core.results.reading import newest_audit

LISTED_CLASSES = 50  # rows of a table of classes; the report has all classes
LIMITS = (
    "Accuracy under attack is an upper bound: a stronger attack can only lower it.",
    "The results cover perturbations within the stated norm and radius. They do not cover rotations, weather or patches.",
    "The intervals describe the sample of images. They hold for images that are drawn as the audited ones were.",
    "Classes are labels of the data set. Differences between classes are no statement about groups of people.",
)


def describe_series(series: Sequence[SourceReport]) -> str:
    """Return the section: the main numbers of each report, a table of classes for each, scope, warnings and limits.

    Args:
        series: one report, or audits that differ in the radius alone.
    """
    report = series[-1]
    return "\n".join(
        [
            f"## Adversarial robustness under {escape(str(newest_audit(report).spec.threat))}\n",
            *(f"{escape(sentence)}\n" for sentence in verdict(report)),
            _write_overview([newest_audit(one) for one in series]),
            *map(_write_classes, series),
            *_write_groups(newest_audit(report)),
            "### Scope\n",
            _write_list(_list_scope(report)),
            *_write_warnings(report),
            "### Limits\n",
            _write_list(LIMITS),
        ]
    )


def _write_overview(audits: Sequence[AuditReport]) -> str:
    head = ["threat model", "attacks", "clean accuracy", "robust accuracy", "worst class", "its robust accuracy"]
    rows = [
        [
            str(audit.spec.threat),
            ", ".join(filter(None, [name_attacks(audit), caveat(audit)])),
            with_bounds(audit.clean.mean),
            with_bounds(audit.robust.mean),
            name_worst_class(audit),
            with_bounds(audit.robust.worst),
        ]
        for audit in audits
    ]
    return write_table(head, rows)


def _write_classes(report: SourceReport) -> str:
    """Return the heading and the table of classes, lowest robust accuracy first."""
    audit = newest_audit(report)
    threat = audit.spec.threat
    head = ["class", "images", "clean", f"robust, {threat}"]
    cells = {
        c: [row.name, str(row.images), with_bounds(row.clean), with_bounds(row.robust)]
        for c, row in enumerate(audit.classes)
    }
    if isinstance(report, FinetuneReport) and report.outcome != "kept-original":
        head += ["robust before", "change in points", "p (Holm)", "conclusion"]
        for c, change in enumerate(report.robust.classes):
            before = with_bounds(report.before.classes[c].robust)
            cells[c] += [before, points(change.after - change.before), p_value(change.p_adjusted), change.verdict]
    order = worst_first(audit.classes)
    hidden = len(order) - LISTED_CLASSES
    more = f"\n{hidden} more classes, all more robust than these, are in the report.\n" if hidden > 0 else ""
    return f"### Classes under {escape(str(threat))}\n\n{write_table(head, [cells[c] for c in order[:LISTED_CLASSES]])}{more}"


def _write_groups(audit: AuditReport) -> Iterator[str]:
    if audit.groups:
        yield "### Groups\n"
        yield _write_list([f"{table.column}: {summarise_group(table)}" for table in audit.groups])


def _list_scope(report: SourceReport) -> Iterator[str]:
    """Yield the statements on what was audited, how, and by which software."""
    audit = newest_audit(report)
    classifier, dataset, spec = audit.classifier, audit.dataset, audit.spec
    size = f"{classifier.parameters:,} parameters"
    yield f"Classifier: {classifier.name}, {classifier.spec.architecture}, {size}, SHA-256 of the weights {classifier.sha256}."
    yield f"Images: {dataset.images:,} of the {dataset.part} part of {dataset.name}, SHA-256 {dataset.sha256}."
    yield f"Threat model: perturbations of {spec.threat}, for pixels in [0, 1]."
    yield f"Attacks, each on the images that no earlier one broke: {', '.join(attack.name for attack in audit.attacks)}."
    confidence = f"{100 * spec.confidence:g} % confidence"
    kind = "confidence sequences" if audit.sequential else "Clopper–Pearson"
    yield f"Intervals: {kind} at {confidence}; those of a column of classes hold for all classes together."
    if isinstance(report, FinetuneReport) and report.outcome != "kept-original":
        training = report.training_dataset
        images = f"{training.images:,} images of the {training.part} part of {training.name}"
        yield f"Fine-tuned on {images}, SHA-256 {training.sha256}."
    provenance = audit.provenance
    software = f"; PyTorch {provenance.torch} on {provenance.device}" if provenance else ""
    yield f"Measured by {report.product} on {report.created_at:%Y-%m-%d}{software}."


def _write_warnings(report: SourceReport) -> Iterator[str]:
    listed = warnings(report)
    if listed:
        yield "### Warnings\n"
        yield _write_list(
            [
                f"{f'{when}: ' if when else ''}{one.message} {one.advice} ({one.code}: {one.evidence})"
                for when, one in listed
            ]
        )


def _write_list(items: Sequence[str] | Iterator[str]) -> str:
    return "".join(f"- {escape(item)}\n" for item in items)
