"""A report as Python shows it: as text, as a page in a notebook, and as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from faal_core.reports import files, notebook, terminal
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.method_table_documents import MethodTable

Shown = TypeVar("Shown", ComparisonReport, ModelTable, MethodTable)


@dataclass(frozen=True, repr=False)
class ShownReport(Generic[Shown]):
    """Holds a report that no images belong to.

    Args:
        report: the document.
    """

    report: Shown

    def save(self, folder: str | Path) -> None:
        """Write report.json and report.html into the folder, which is created if needed. Raises: OSError."""
        files.save(self.report, Path(folder))

    def __repr__(self) -> str:
        """Return the report's summary and its table as text."""
        return terminal.summary(self.report)

    def _repr_html_(self) -> str:
        """Return the report's page for a notebook."""
        return notebook.render(self.report)
