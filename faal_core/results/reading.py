"""Read reports back from their JSON."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport

Report = Annotated[AuditReport | FinetuneReport, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[AuditReport | FinetuneReport] = TypeAdapter(Report)


def read_report(document: str | bytes) -> AuditReport | FinetuneReport:
    """Return the report in a JSON document. Raises: pydantic.ValidationError."""
    return _ADAPTER.validate_json(document)
