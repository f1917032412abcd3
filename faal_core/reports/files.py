"""Reports as files in a folder."""

from pathlib import Path

from faal_core.reports import html
from faal_core.results.outcomes import Outcomes
from faal_core.results.reading import REPORT, Report, list_audits


def save(report: Report, folder: Path, *outcomes: Outcomes) -> str:
    """Write report.json, report.html and the outcomes into the folder, which is created if needed; return the JSON.

    Args:
        outcomes: those of each audit in the report, in the order of `list_audits`.
    Raises: InvalidSpec if pyarrow is missing; OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = report.model_dump_json(indent=2)
    (folder / REPORT).write_text(document, "utf-8")
    (folder / "report.html").write_text(html.render(report), "utf-8")
    for (name, audited), one in zip(list_audits(report).items(), outcomes, strict=True):
        one.write(folder / name, audited)
    return document
