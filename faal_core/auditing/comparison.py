"""Compare two audits of the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from faal_core.auditing.result import AuditResult
from faal_core.errors import InvalidSpec
from faal_core.reports import notebook
from faal_core.reports.text_table import text_table
from faal_core.results.comparison import compare as compare_flags
from faal_core.results.finetune_documents import Comparison
from faal_core.results.frames import build_frame, change_columns


@dataclass(frozen=True, repr=False)
class AuditComparison:
    """Compares two audits of the same images with the same attacks, class by class, by paired tests.

    Args:
        clean, robust: the changes from the first audit to the second, without an attack and after all attacks.
    """

    clean: Comparison
    robust: Comparison

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return the changes of each class as a data frame of pandas, or of polars without pandas."""
        return build_frame(change_columns(self.clean, self.robust))

    def __repr__(self) -> str:
        """Return the changes of each class as an aligned table."""
        columns = change_columns(self.clean, self.robust)
        cells = zip(*columns.values(), strict=True)
        rows = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in cells]
        return "\n".join(text_table([list(columns), *rows], numeric=True))

    def _repr_html_(self) -> str:
        """Return the changes as a table for a notebook."""
        return notebook.render_table(change_columns(self.clean, self.robust))


def compare(before: AuditResult, after: AuditResult) -> AuditComparison:
    """Compare two audits of the same images, with the same radius and attacks.

    Returns: for clean and robust accuracy the change of each class with an exact McNemar test, adjusted over the classes by
        Holm's method, and the change of the mean and of the worst class with bounds.
    Raises: InvalidSpec if images, radius or attacks differ.
    """
    for result in (before, after):
        if not isinstance(result, AuditResult):
            raise InvalidSpec(
                f"`compare` takes two results of `audit`, not a {type(result).__name__}. From a RadiusSeries, pass one of its "
                "`results`."
            )
    one, other = before.report, after.report
    if one.dataset.sha256 != other.dataset.sha256 or not np.array_equal(before.outcomes.rows, after.outcomes.rows):
        raise InvalidSpec(
            f"The audits have different images, {one.dataset.name} and {other.dataset.name}. Only audits of the same images, "
            "in the same order, are compared pair by pair."
        )
    if one.spec.threat != other.spec.threat:
        raise InvalidSpec(
            f"The audits have different radii, {one.spec.threat} and {other.spec.threat}. Audit both with the same."
        )
    if one.spec.attacks != other.spec.attacks:
        first, second = ("; ".join(map(repr, report.spec.attacks)) for report in (one, other))
        raise InvalidSpec(f"The audits have different attacks, {first} and {second}. Audit both with the same.")
    if not (one.complete and other.complete):
        raise InvalidSpec("One of the audits was stopped before its attacks had tried every image. Resume it first.")
    labels, names, confidence = before.evaluation.labels, one.dataset.class_names, one.spec.confidence
    return AuditComparison(
        *(
            compare_flags(labels, getattr(before.evaluation, kind), getattr(after.evaluation, kind), names, confidence)
            for kind in ("correct", "robust")
        )
    )
