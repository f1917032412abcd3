"""Find the audit that a gate judges, and the audit that it is compared with."""

from faal_core.errors import InvalidSpec
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.comparison_documents import ComparisonReport
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.baseline import PairedAudits
from faal_core.results.reading import Report, StoredAudit


def separate(report: Report) -> tuple[AuditReport, PairedAudits | None]:
    """Return the audit that a gate judges, and the comparison that is in the same report.

    Of a fine-tuning that is the audit of its new weights, compared with the audit before it; of a comparison the second audit,
    compared with the first.

    Raises: InvalidSpec for a table of models, and for a comparison of different images.
    """
    match report:
        case AuditReport():
            return report, None
        case FinetuneReport():
            return report.after, PairedAudits(report.before, report.clean, report.robust)
        case ComparisonReport():
            return report.after, _require_paired(report)
    raise InvalidSpec("A table of models has no single audit to judge. Name the report of one audit.")


def pair_audits(baseline: StoredAudit, audit: StoredAudit) -> PairedAudits:
    """Return the comparison of the audit with the baseline, image by image.

    Raises: InvalidSpec if radius, attacks or images differ, one was stopped, or one has no outcomes of its images.
    """
    return _require_paired(compare_audits(baseline, audit))


def _require_paired(report: ComparisonReport) -> PairedAudits:
    if report.pairing != "paired":
        raise InvalidSpec(
            f"{report.reason} A gate compares an audit with a baseline image by image. Audit both on the same images, and keep "
            "the outcomes beside each report."
        )
    return PairedAudits(report.before, report.clean, report.robust)
