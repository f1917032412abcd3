"""Define the JSON documents of fine-tunings, and judge their outcome. docs/reference/report.md explains every field."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from faal_core.results.document import Document
from faal_core.results.documents import AuditReport, DatasetSummary, Interval, ReliabilityWarning
from faal_core.results.older_documents import upgrade_report
from faal_core.specs import FinetuneSpec


class EpochRow(Document):
    """Describes one epoch of training, with accuracies on the validation images."""

    epoch: int
    fraction: float = Field(
        1.0, description="Fraction of the epoch's steps that were made; below 1 where the time limit ended it."
    )
    learning_rate: float
    loss: float = Field(description="Mean of the weighted loss over the epoch.")
    class_weights: tuple[float, ...] = Field(
        description="Factor of each class's classification loss, mean over the batches; 1 is neutral. Where the report has "
        "`cells`, one factor for each of these."
    )
    validation_clean: float | None = Field(description="Clean accuracy on the validation images.")
    validation_robust: float | None = Field(
        description="Robust accuracy on the validation images, mean of the classes."
    )
    validation_robust_worst: float | None = Field(description="Robust accuracy on the validation images, worst class.")
    seconds: float


class Candidate(Document):
    """Describes weights that could be kept, with accuracies on the validation images.

    Candidates are the given weights, these with a scaled change of the last layer, and weights between those that training
    began with and those of the best epoch.
    """

    interpolation: float = Field(
        description="Interpolation between the weights that training began with (0) and the best epoch's weights (1)."
    )
    offset_scale: float = Field(
        0.0,
        description="Scale of the class offsets in these weights, or the exponent of the row scales; 0 where there are none, "
        "1 for their full size.",
    )
    clean: float = Field(description="Clean accuracy on the validation images.")
    robust: float = Field(description="Robust accuracy on the validation images, mean of the classes.")
    robust_worst: float = Field(description="Robust accuracy on the validation images, worst class.")
    worst_standard_error: float | None = Field(
        None,
        description="Standard error of `robust_worst`: trained weights must exceed the best others by more than it; null in "
        "older reports.",
    )
    class_drop: float | None = Field(
        None,
        description="Largest fall of a single class's clean or robust accuracy below that of the given weights; null "
        "in older reports.",
    )
    within_bounds: bool | None = Field(
        None,
        description="Whether mean and class accuracies fall by no more than the spec allows; null in older reports.",
    )
    on_front: bool = Field(
        description="Whether no other candidate is at least as good in both mean and worst class and better in one of "
        "them."
    )


class ClassChange(Document):
    """Compares one class before and after, on the same images by an exact McNemar test, else by Fisher's exact test."""

    name: str
    before: float
    after: float
    gained: int | None = Field(
        description="Number of images that are misclassified before and correctly classified after; null where the "
        "images differ."
    )
    lost: int | None = Field(
        description="Number of images that are correctly classified before and misclassified after; null where the "
        "images differ."
    )
    p_value: float
    p_adjusted: float = Field(
        description="p-value adjusted by Holm's method: in a fine-tuning over the classes, in a comparison of audits over "
        "all classes and means, clean and robust."
    )
    verdict: Literal["better", "worse", "unclear"]


class Comparison(Document):
    """Compares clean or robust accuracy before and after."""

    classes: tuple[ClassChange, ...]
    mean_change: Interval = Field(
        description="Change of the mean accuracy. Bounds are by a stratified paired bootstrap over images; where the images "
        "differ, the mean of the classes' changes with Mantel–Haenszel weights, and bounds from Newcombe's method 10."
    )
    worst_class_before: str
    worst_class_after: str
    worst_change: Interval = Field(
        description="Smallest class rate after minus smallest class rate before; bounds from both intervals."
    )


class CellRow(Document):
    """Describes a class × group cell: one or more groups of one class, whose images are weighed and compared together."""

    name: str
    class_name: str
    groups: tuple[str, ...] = Field(description="Groups in the cell, in alphabetical order.")
    training_images: int = Field(description="Number of training images in the cell, validation images included.")
    test_images: int = Field(description="Number of test images in the cell that both audits use.")


class CellComparison(Document):
    """Compares the class × group cells before and after, on the test images.

    Where a report has cells, they take the place of the classes in every accuracy on the validation images, in the class
    weights and in the outcome.
    """

    column: str = Field(description="Name of the column of groups.")
    cells: tuple[CellRow, ...] = Field(description="Cells of the training data, class by class.")
    clean: Comparison
    robust: Comparison


Outcome = Literal["better", "mixed", "worse", "unclear", "kept-original"]


class Fall(NamedTuple):
    """Describes a significant fall of clean or robust accuracy; `change` is negative.

    Args:
        name: name of the class; None for the mean over all images.
    """

    accuracy: Literal["clean", "robust"]
    name: str | None
    change: float


def falls(clean: Comparison, robust: Comparison, cells: CellComparison | None = None) -> list[Fall]:
    """Return the accuracies that fell significantly on the test images.

    The means come first, then the classes and cells; the largest fall comes first within each. A cell with all images of its
    class is not listed beside the class.
    """
    significant: list[Fall] = []
    compared: tuple[tuple[Literal["clean", "robust"], Comparison], ...] = (("clean", clean), ("robust", robust))
    if cells is not None:
        cells_of_class = Counter(row.class_name for row in cells.cells)
        names = {row.name for row in cells.cells if cells_of_class[row.class_name] > 1}
        significant += [fall for fall in falls(cells.clean, cells.robust) if fall.name in names]
    for accuracy, comparison in compared:
        if comparison.mean_change.high < 0:
            significant.append(Fall(accuracy, None, comparison.mean_change.value))
        significant += [
            Fall(accuracy, row.name, row.after - row.before) for row in comparison.classes if row.verdict == "worse"
        ]
    return sorted(significant, key=lambda fall: (fall.name is not None, fall.change))


def worst_class_rose(robust: Comparison) -> bool:
    """Return whether the class that was worst is significantly better, and the smallest class rate rose with it."""
    worst = next(row for row in robust.classes if row.name == robust.worst_class_before)
    return worst.verdict == "better" and robust.worst_change.value > 0


def _judge_outcome(fields: dict[str, Any]) -> Outcome:
    """Return the outcome of a fine-tuning from the report's fields that come before `outcome`.

    "better" needs that no bounded accuracy fell: both means are bounded, and single classes where the spec bounds them.
    """
    if fields.get("selected_candidate") == 0:
        return "kept-original"
    if not {"spec", "clean", "robust"} <= fields.keys():
        return "unclear"  # pydantic reports the missing fields
    cells: CellComparison | None = fields.get("cells")
    significant = falls(fields["clean"], fields["robust"], cells)
    if not worst_class_rose(cells.robust if cells else fields["robust"]):
        return "worse" if significant else "unclear"
    classes_bounded = fields["spec"].training.max_class_drop is not None
    return "mixed" if any(fall.name is None or classes_bounded for fall in significant) else "better"


class FinetuneReport(Document):
    """Reports a fine-tuning: two audits on the same images, the training between them, and the comparison."""

    kind: Literal["finetune"] = "finetune"
    version: Literal[2] = 2
    product: str
    created_at: datetime
    seconds: float
    spec: FinetuneSpec
    training_dataset: DatasetSummary
    validation_images: int
    warnings: tuple[ReliabilityWarning, ...] = Field(
        (),
        description="Signs, from before the training, that this classifier can hardly be fine-tuned to a useful one. "
        "Empty where the new weights show that it can.",
    )
    epochs: tuple[EpochRow, ...]
    selected_epoch: int = Field(
        description="Number in `epochs` of the epoch that did best; 0 where nothing was trained."
    )
    candidates: tuple[Candidate, ...] = Field(
        (),
        description="Weights that could be kept: the given weights first, the best epoch's weights last. Without training, the "
        "last ones have the whole change of the last layer.",
    )
    selected_candidate: int | None = Field(
        None,
        description="Number of the candidate that was kept, from 0; 0 is the given weights. Null where the spec sets "
        "no bounds, and in older reports.",
    )
    selected_interpolation: float = Field(1.0, description="Interpolation of the weights that were kept.")
    selected_offset_scale: float = Field(
        0.0, description="Scale of the class offsets that were kept, or the exponent of the row scales."
    )
    class_offsets: tuple[float, ...] | None = Field(
        None,
        description="Constants added to each class's logit in the weights that were kept; null where there are none.",
    )
    unscaled_class_offsets: tuple[float, ...] | None = Field(
        None, description="Class offsets at their full size, which candidates scale; null where there are none."
    )
    unscaled_row_scales: tuple[float, ...] | None = Field(
        None,
        description="Factors of the rows of the last layer, one per class, for weights with an `offset_scale` of 1; null where "
        "there are none.",
    )
    trained_sha256: str | None = Field(
        None,
        description="SHA-256 of the best epoch's weights, from which other candidates are made; of the kept weights where "
        "nothing was trained; null in older reports.",
    )
    before: AuditReport
    after: AuditReport = Field(
        description="Audit of the weights that were kept; the same as `before` where these are the original weights."
    )
    clean: Comparison
    robust: Comparison
    cells: CellComparison | None = Field(
        None,
        description="Changes of the class × group cells; null where the method does not name a column of groups, and in "
        "older reports.",
    )
    outcome: Outcome = Field(
        default_factory=_judge_outcome,
        description="Result of the fine-tuning. better: the worst class is significantly more robust, and no bounded "
        "accuracy fell significantly. mixed: the worst class is significantly more robust, and a bounded accuracy "
        "fell significantly. worse: an accuracy fell significantly, and the worst class is not significantly better. "
        "unclear: no significant change of either kind. kept-original: no candidate within the bounds made the worst "
        "class better on the validation images, so no new weights were made. Where the report has `cells`, the worst cell takes "
        "the place of the worst class.",
    )

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: object) -> object:
        """Rename the fields of a report of version 1."""
        return upgrade_report(fields) if isinstance(fields, Mapping) else fields

    @property
    def falls(self) -> list[Fall]:
        """Return the accuracies that fell significantly on the test images, means first."""
        return falls(self.clean, self.robust, self.cells)

    @property
    def worst_comparison(self) -> Comparison:
        """Return the comparison whose worst class or cell the fine-tuning lifts: that of the cells, where there are any."""
        return self.cells.robust if self.cells else self.robust
