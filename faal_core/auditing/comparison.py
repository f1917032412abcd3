"""Compare audits in Python: results of `audit`, or reports in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faal_core.auditing.result import AuditResult
from faal_core.errors import InvalidSpec
from faal_core.reports.comparison_text import tabulate_models
from faal_core.reports.shown_report import ShownReport
from faal_core.results.audit_comparison import compare_audits, tabulate_audits
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.finetune_documents import Comparison
from faal_core.results.frames import build_frame, change_columns
from faal_core.results.reading import StoredAudit, read_audit


class AuditComparison(ShownReport[ComparisonReport]):
    """Holds the comparison of two audits; `report` is the document with all tests and both audits."""

    @property
    def clean(self) -> Comparison:
        """Return the changes of the clean accuracy."""
        return self.report.clean

    @property
    def robust(self) -> Comparison:
        """Return the changes of the robust accuracy."""
        return self.report.robust

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the changes of each class as a data frame of pandas, or of polars without pandas."""
        return build_frame(change_columns(self.clean, self.robust))


class AuditTable(ShownReport[ModelTable]):
    """Holds a table of audits, the highest lower bound of the worst class first within each radius, in `report`."""

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return one row for each audit as a data frame of pandas, or of polars without pandas."""
        titles, *rows = tabulate_models(self.report)
        return build_frame({title: list(column) for title, column in zip(titles, zip(*rows, strict=True), strict=True)})


def compare(before: AuditResult | str | Path, after: AuditResult | str | Path) -> AuditComparison:
    """Compare two audits with the same radius and attacks; no model runs.

    Audits of the same images are compared image by image, by exact McNemar tests. Audits of different images are compared by
    the counts of their classes, by Fisher's exact tests. All p-values of classes and means are adjusted together by Holm's
    method.

    Args:
        before, after: results of `audit`, or paths of a report.json or of the folder that has it.
    Raises: InvalidSpec if radius or attacks differ, an audit is incomplete, or a file is no report; OSError.
    """
    return AuditComparison(compare_audits(_load(before), _load(after)))


def tabulate(audits: Sequence[AuditResult | str | Path]) -> AuditTable:
    """Return a table of audits of several models, with one or several radii.

    Args:
        audits: as in `compare`. They need not have the same attacks and images; the table says what differs.
    Raises: InvalidSpec without an audit, or if a file is no report; OSError.
    """
    return AuditTable(tabulate_audits([_load(one).report for one in audits]))


def _load(audited: object) -> StoredAudit:
    if isinstance(audited, AuditResult):
        return StoredAudit(audited.report, audited.outcomes)
    if isinstance(audited, str | Path):
        return read_audit(Path(audited))
    raise InvalidSpec(
        f"A {type(audited).__name__} is not the result of an audit. Pass the result of `audit`, or the path of a report.json; "
        "from a RadiusSeries, pass one of its `results`."
    )
