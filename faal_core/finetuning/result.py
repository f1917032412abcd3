"""The result of a fine-tuning: the report, and the classifiers that it is about."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faal_core.classifier import Classifier
from faal_core.reports import files, notebook, terminal
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.frames import build_frame, change_columns
from faal_core.results.outcomes import Outcomes
from faal_core.weights import write_classifier

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True, eq=False, repr=False)
class FinetuneResult:
    """Holds the report, the selected classifier, and the classifier of the best epoch.

    Args:
        report: the document that `report.json` holds.
        outcomes: the outcomes of the audits before and after the training.
        classifier: the selected classifier. If the outcome is `kept-original`, it is the original classifier.
        trained_classifier: the classifier of the best epoch, from which the report's candidates are computed.
    """

    report: FinetuneReport
    outcomes: tuple[Outcomes, Outcomes]
    classifier: Classifier
    trained_classifier: Classifier

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the changes of each class as a data frame of pandas, or of polars without pandas."""
        return build_frame(change_columns(self.report.clean, self.report.robust))

    def plot(self) -> "alt.LayerChart":
        """Return a chart of the robust accuracy of each class before and after, with intervals. Needs altair."""
        from faal_core.reports.charts import chart_finetuning

        return chart_finetuning(self.report)

    def save(self, folder: str | Path) -> None:
        """Write the report, the outcomes of both audits and the classifier's weights into the folder.

        It is created if needed.
        Raises: OSError.
        """
        files.save(self.report, Path(folder), *self.outcomes)
        write_classifier(Path(folder) / "classifier.safetensors", self.classifier)

    def __repr__(self) -> str:
        """Return the warnings, the verdict and the classes as text."""
        return terminal.summary(self.report)

    def _repr_html_(self) -> str:
        """Return the report's page for a notebook."""
        return notebook.render(self.report)
