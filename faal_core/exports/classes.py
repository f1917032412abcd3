"""Export the rates of each class as a table: CSV or Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faal_core.exports.facts import SourceReport, list_facts
from faal_core.exports.metric_keys import KeyMaker
from faal_core.exports.metrics import class_keys
from faal_core.exports.stored_report import Source, read_series
from faal_core.results.documents import AuditReport
from faal_core.results.frames import Columns, change_columns, class_columns, write_columns


def write_classes(*reports: Source, path: str | Path) -> None:
    """Write one row per class with its rates and their bounds to a .csv or .parquet file.

    The table of a fine-tuning has the rates of the audit after the training, and the changes. Several audits that differ in the
    radius alone become one table with the column `epsilon`. A Parquet file carries the settings in its metadata key `faal`.

    Args:
        reports: reports, or paths of `report.json` files.
        path: the file to write.
    Raises: InvalidSpec, OSError.
    """
    series = [one.report for one in read_series(reports)]
    write_columns(Path(path), list_columns(series), list_facts(series))


def list_columns(series: Sequence[SourceReport], make_keys: KeyMaker | None = None) -> Columns:
    """Return the table of classes: one row per report and class.

    Args:
        series: one report, or audits that differ in the radius alone.
        make_keys: adds the column `metric_key`, with the class's part in the names of metrics.
    """
    columns: dict[str, list[Any]] = {}
    for report in series:
        audit = report if isinstance(report, AuditReport) else report.after
        head: dict[str, Sequence[Any]] = {}
        if len(series) > 1:
            head["epsilon"] = [audit.spec.threat.epsilon] * len(audit.classes)
        if make_keys:
            head["metric_key"] = class_keys(audit, make_keys)
        changes = {} if isinstance(report, AuditReport) else change_columns(report.clean, report.robust)
        for name, values in {**head, **class_columns(audit), **changes}.items():
            columns.setdefault(name, []).extend(values)
    return columns
