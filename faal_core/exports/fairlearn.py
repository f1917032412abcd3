"""Return the outcome of each image as the arrays that Fairlearn's metrics take. Fairlearn itself is not needed."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import Rows
from faal_core.results.outcomes import Outcomes


class FairnessArrays(NamedTuple):
    """Holds one element per image, in the order of the audit; the fields are named as Fairlearn's arguments.

    `MetricFrame(metrics=accuracy_score, **arrays._asdict())` computes an accuracy per class or group.

    Args:
        y_true: true class, as its number.
        y_pred: predicted class, as its number.
        sensitive_features: name of the image's class or group.
    """

    y_true: Rows
    y_pred: Rows
    sensitive_features: NDArray[np.object_]


def fairness_arrays(
    report: AuditReport, outcomes: Outcomes, *, under_attack: bool = True, group_column: str | None = None
) -> FairnessArrays:
    """Return true classes, predictions, and the class or group of each image.

    Under attack, the prediction is that of the adversarial image that broke the image, or the clean one where no attack broke
    it. So the accuracy is the robust accuracy of the report.

    Args:
        report: the report of the audit, which has the names of the classes.
        outcomes: the outcomes of the same audit, as an `AuditResult` has them and `read_audit` returns them.
        under_attack: whether to return the predictions after the attacks instead of the clean ones.
        group_column: name of a column of groups in the data set; the classes themselves when absent.
    Raises: InvalidSpec if the outcomes are those of another audit, or there is no such column.
    """
    if outcomes.sha256 != report.outcomes_sha256:
        raise InvalidSpec("The outcomes are not those of this report. Pass the report and the outcomes of one audit.")
    if group_column is not None and group_column not in outcomes.groups:
        known = ", ".join(outcomes.groups) or "none"
        raise InvalidSpec(f"The data set has no column of groups named {group_column!r}. Its columns: {known}.")
    rows = outcomes.evaluation
    members = (
        [report.dataset.class_names[label] for label in rows.labels]
        if group_column is None
        else outcomes.groups[group_column]
    )
    return FairnessArrays(rows.labels, rows.attacked if under_attack else rows.clean, np.array(members, dtype=object))
