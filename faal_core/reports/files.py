"""Reports as files in a folder."""

from pathlib import Path

from faal_core.reports import html
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport


def save(report: AuditReport | FinetuneReport, folder: Path) -> str:
    """Write report.json and report.html into the folder, which is created if needed; return the JSON. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    document = report.model_dump_json(indent=2)
    (folder / "report.json").write_text(document, "utf-8")
    (folder / "report.html").write_text(html.render(report), "utf-8")
    return document
