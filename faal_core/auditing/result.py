"""The result of an audit: the report, and the outcome of each image that it was computed from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from faal_core.reports import files, notebook, terminal
from faal_core.results.documents import AuditReport
from faal_core.results.frames import build_frame, class_columns
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import BatchResult
from faal_core.results.outcomes import Outcomes

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult:
    """Holds the report of an audit and the outcome of each image.

    Args:
        report: the document that `report.json` holds.
        outcomes: one row per audited image, from which the report was computed.
        batch_results: of each batch, clean and after each run of an attack, which another audit of the classifier may use.
        adversarial_images: `n c h w`, float32 in [0, 1]: the image that broke each audited image, or the image itself where no
            attack broke it; None unless they were requested.
    """

    report: AuditReport
    outcomes: Outcomes
    batch_results: tuple[BatchResult, ...] = field(default=())
    adversarial_images: Tensor | None = field(default=None)

    @property
    def evaluation(self) -> Evaluation:
        """Return labels, predictions and margins, one row per audited image."""
        return self.outcomes.evaluation

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the rates of each class with their bounds as a data frame of pandas, or of polars without pandas."""
        return build_frame(class_columns(self.report))

    def outcomes_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the outcome of each image as a data frame of pandas, or of polars without pandas."""
        return build_frame(self.outcomes.columns(self.report))

    def plot(self) -> "alt.LayerChart":
        """Return a chart of the clean and robust accuracy of each class, with intervals. Needs altair."""
        from faal_core.reports.charts import chart_audit

        return chart_audit(self.report)

    def save(self, folder: str | Path) -> None:
        """Write report.json, report.html and outcomes.parquet into the folder, which is created if needed. Raises: OSError."""
        files.save(self.report, Path(folder), self.outcomes)

    def save_outcomes(self, path: str | Path) -> None:
        """Write the outcome of each image to a .parquet or .csv file. Raises: InvalidSpec, OSError."""
        self.outcomes.write(Path(path), self.report)

    def __repr__(self) -> str:
        """Return the warnings, the verdict and the classes as text."""
        return terminal.summary(self.report)

    def _repr_html_(self) -> str:
        """Return the report's page for a notebook."""
        return notebook.render(self.report)
