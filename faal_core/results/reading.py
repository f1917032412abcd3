"""Read reports back from their JSON, with the outcomes that are stored beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from faal_core.errors import InvalidSpec
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.outcomes import Outcomes, read_outcomes

REPORT = "report.json"
OUTCOMES = {
    "audit": "outcomes.parquet",
    "before": "outcomes-before.parquet",
    "after": "outcomes-after.parquet",
}
"""The names of the files with the outcomes of an audit, and of the audits before and after a fine-tuning."""

JobReport = Annotated[AuditReport | FinetuneReport | ComparisonReport | ModelTable, Field(discriminator="kind")]
"""A report that a job of the service makes."""
Report = Annotated[
    AuditReport | FinetuneReport | ComparisonReport | ModelTable | MethodTable, Field(discriminator="kind")
]
_AUDITED: TypeAdapter[AuditReport | FinetuneReport] = TypeAdapter(
    Annotated[AuditReport | FinetuneReport, Field(discriminator="kind")]
)
_ANY: TypeAdapter[Report] = TypeAdapter(Report)


def read_report(document: str | bytes) -> AuditReport | FinetuneReport:
    """Return the report of an audit or a fine-tuning in a JSON document. Raises: pydantic.ValidationError."""
    return _AUDITED.validate_json(document)


def read_any_report(document: str | bytes) -> Report:
    """Return the report in a JSON document, which may be a comparison too. Raises: pydantic.ValidationError."""
    return _ANY.validate_json(document)


def read_report_file(path: Path) -> Report:
    """Return the report in a report.json, or in the folder that has it. Raises: InvalidSpec if it is no report; OSError."""
    file = find_report(path)
    try:
        return read_any_report(file.read_bytes())
    except ValidationError:
        raise InvalidSpec(f"{file} is not a report that FAAL has written. Name a report.json.") from None


def find_report(path: Path) -> Path:
    """Return the path of a report.json, which may be that of its folder."""
    return path / REPORT if path.is_dir() else path


def list_audits(report: Report) -> Mapping[str, AuditReport]:
    """Return the audits of a job by the names of the files that hold their outcomes; the newest weights come last.

    Comparisons and tables have no audit of their own.
    """
    match report:
        case AuditReport():
            return {OUTCOMES["audit"]: report}
        case FinetuneReport():
            return {OUTCOMES["before"]: report.before, OUTCOMES["after"]: report.after}
        case _:
            return {}


def newest_audit(report: AuditReport | FinetuneReport) -> AuditReport:
    """Return the audit in a report; of a fine-tuning, the audit of its new weights."""
    return report if isinstance(report, AuditReport) else report.after


@dataclass(frozen=True, eq=False)
class StoredAudit:
    """Holds an audit that was read from files.

    Args:
        outcomes: None where the report is older than stored outcomes, or their file is missing.
    """

    report: AuditReport
    outcomes: Outcomes | None


def read_audit(path: Path) -> StoredAudit:
    """Return the audit in a report.json, or in the folder that has it; of a fine-tuning, the audit of its new weights.

    Outcomes are read from the file beside the report.
    Raises: InvalidSpec if the file is no report, or the outcomes are not of this report; OSError.
    """
    file = find_report(path)
    report = read_report_file(file)
    audits = list_audits(report)
    if not audits:
        raise InvalidSpec(f"{file} is a {report.kind}, not the report of an audit or a fine-tuning.")
    name, audited = list(audits.items())[-1]
    stored = file.parent / name
    has_outcomes = bool(audited.outcomes_sha256) and stored.exists()
    return StoredAudit(audited, read_outcomes(stored, audited) if has_outcomes else None)
