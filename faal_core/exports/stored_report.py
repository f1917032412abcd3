"""Read the reports to export, and write the files that a run of another tool keeps beside its numbers."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faal_core.errors import InvalidSpec
from faal_core.exports.facts import SourceReport
from faal_core.results.documents import AuditReport
from faal_core.results.frames import Columns, write_columns
from faal_core.results.outcomes import read_outcomes
from faal_core.results.reading import REPORT, find_report, list_audits, newest_audit, read_report_file

Source = SourceReport | str | Path
"""A report, or the path of its `report.json` or of the folder that has it."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """Holds a report, and the path of its `report.json` if it was read from there."""

    report: SourceReport
    path: Path | None = None

    @property
    def document(self) -> bytes:
        """Return the report's JSON: that of its file, byte for byte, if there is one. Raises: OSError."""
        return self.path.read_bytes() if self.path else self.report.model_dump_json(indent=2).encode()


def read_series(sources: Sequence[Source]) -> list[StoredReport]:
    """Read the reports, and return them by ascending radius.

    Raises:
        InvalidSpec: if there is no report, a file is no report, or several are not audits that differ in the radius alone.
        OSError: if a file cannot be read.
    """
    if not sources:
        raise InvalidSpec("There is no report to export. Pass at least one.")
    series = [_read(source) for source in sources]
    if len(series) > 1:
        _check_series([one.report for one in series])
    return sorted(series, key=lambda one: newest_audit(one.report).spec.threat.epsilon)


def _read(source: Source) -> StoredReport:
    if not isinstance(source, str | Path):
        return StoredReport(source)
    path = find_report(Path(source))
    report = read_report_file(path)
    if not isinstance(report, SourceReport):
        raise InvalidSpec(
            f"{path} is a {report.kind}. Export the reports of the audits; the other tool compares its runs."
        )
    return StoredReport(report, path)


def _check_series(reports: Sequence[SourceReport]) -> None:
    """Check that the reports are audits that differ in the radius alone. Raises: InvalidSpec."""
    audits = [report for report in reports if isinstance(report, AuditReport)]
    if len(audits) < len(reports):
        raise InvalidSpec("Export the report of a fine-tuning by itself. Only audits can be exported together.")
    fields: Mapping[str, list[object]] = {
        "classifier": [audit.classifier.sha256 for audit in audits],
        "data set": [(audit.dataset.sha256, audit.dataset.class_names) for audit in audits],
        "norm": [audit.spec.threat.norm for audit in audits],
        "attacks or other settings": [audit.spec.model_dump(exclude={"threat"}) for audit in audits],
    }
    for name, values in fields.items():
        if any(value != values[0] for value in values):
            raise InvalidSpec(
                f"The reports differ in their {name}, so they are no series of radii. Export each by itself."
            )
    if len({audit.spec.threat.epsilon for audit in audits}) < len(audits):
        raise InvalidSpec("Two of the reports have the same radius. Export one report for each radius.")


def write_files(series: Sequence[StoredReport], columns: Columns, folder: Path) -> None:
    """Write classes.csv into the folder, and each report with its page and, where they are beside it, the outcomes of images.

    Several reports get a folder each, named by their number from the smallest radius.

    Raises: InvalidSpec if the outcomes beside a report are not its own; OSError.
    """
    from faal_core.reports import html

    write_columns(folder / "classes.csv", columns, {})
    for number, one in enumerate(series, 1):
        target = folder / f"radius-{number}" if len(series) > 1 else folder
        target.mkdir(exist_ok=True)
        (target / REPORT).write_bytes(one.document)
        (target / "report.html").write_text(html.render(one.report), "utf-8")
        _copy_outcomes(one, target)


def _copy_outcomes(stored: StoredReport, folder: Path) -> None:
    """Copy the files with the outcomes of the report's audits that are beside it, after a check of their digests."""
    if stored.path is None:
        return
    for name, audit in list_audits(stored.report).items():
        file = stored.path.with_name(name)
        if audit.outcomes_sha256 and file.exists():
            read_outcomes(file, audit)
            shutil.copyfile(file, folder / name)
