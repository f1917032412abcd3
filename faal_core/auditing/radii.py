"""The results of audits of one classifier and the same images with several radii."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faal_core.auditing.result import AuditResult
from faal_core.reports import notebook
from faal_core.reports.text import verdict
from faal_core.results.frames import Columns, build_frame, class_columns

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True, eq=False, repr=False)
class RadiusSeries:
    """Holds the result of each radius, smallest radius first. Each report is what an audit of that radius alone returns.

    Args:
        results: one per radius.
    """

    results: tuple[AuditResult, ...]

    @property
    def columns(self) -> Columns:
        """Return the rates of each class: one row per radius and class."""
        columns: dict[str, list[Any]] = {"epsilon": []}
        for result in self.results:
            for name, values in class_columns(result.report).items():
                columns.setdefault(name, []).extend(values)
            columns["epsilon"] += [result.report.spec.threat.epsilon] * len(result.report.classes)
        return columns

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the rates of each class as a data frame: one row per radius and class."""
        return build_frame(self.columns)

    def plot(self) -> "alt.LayerChart":
        """Return a chart of robust accuracy by radius, the mean and each class. Needs altair."""
        from faal_core.reports.charts import chart_radii

        return chart_radii([result.report for result in self.results])

    def __repr__(self) -> str:
        """Return the verdict of each radius as text."""
        texts = ["\n".join([str(result.report.spec.threat), *verdict(result.report)]) for result in self.results]
        return "\n\n".join(texts)

    def _repr_html_(self) -> str:
        """Return the rates as a table for a notebook."""
        return notebook.render_table(self.columns)
