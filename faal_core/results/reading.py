"""Read reports back from their JSON, with the outcomes that are stored beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.outcomes import Outcomes, read_outcomes

REPORT = "report.json"

Report = Annotated[AuditReport | FinetuneReport, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[AuditReport | FinetuneReport] = TypeAdapter(Report)


def read_report(document: str | bytes) -> AuditReport | FinetuneReport:
    """Return the report in a JSON document. Raises: pydantic.ValidationError."""
    return _ADAPTER.validate_json(document)


def list_audits(report: AuditReport | FinetuneReport) -> Mapping[str, AuditReport]:
    """Return the audits in a report by the names of the files that hold their outcomes; the newest weights come last."""
    if isinstance(report, AuditReport):
        return {"outcomes.parquet": report}
    return {"outcomes-before.parquet": report.before, "outcomes-after.parquet": report.after}


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
    file = path / REPORT if path.is_dir() else path
    try:
        report = read_report(file.read_bytes())
    except ValidationError:
        raise InvalidSpec(f"{file} is not a report that FAAL has written. Name a report.json.") from None
    name, audited = list(list_audits(report).items())[-1]
    stored = file.parent / name
    has_outcomes = bool(audited.outcomes_sha256) and stored.exists()
    return StoredAudit(audited, read_outcomes(stored, audited) if has_outcomes else None)
