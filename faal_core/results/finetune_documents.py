"""The documents of fine-tunings, and what one came to. Fields are explained in docs/report.md."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import Field

from faal_core.results.documents import AuditReport, DatasetSummary, Document, Interval, ReliabilityWarning
from faal_core.specs import FinetuneSpec


class EpochRow(Document):
    """One epoch of training, measured on images held out from the training data."""

    epoch: int
    share: float = Field(1.0, description="of its steps: less where the time was over")
    learning_rate: float
    loss: float = Field(description="mean of the weighted loss over the epoch")
    class_weights: tuple[float, ...] = Field(
        description="factor of the classification loss, mean over the batches; 1 is neutral"
    )
    held_out_clean: float | None
    held_out_mean: float | None = Field(description="robust accuracy, mean of the classes")
    held_out_worst: float | None = Field(description="robust accuracy of the worst class")
    seconds: float


class Candidate(Document):
    """Weights that could be kept, on held-out images: the given ones, or on the way from where training began to its best."""

    share: float = Field(description="of the way: 0 is where training began, 1 the best epoch's weights")
    offsets: float = Field(0.0, description="share of the class offsets, where training began with any")
    clean: float
    mean: float = Field(description="robust accuracy, mean of the classes")
    worst: float = Field(description="robust accuracy of the worst class")
    class_drop: float | None = Field(
        None,
        description="largest fall of the clean or robust accuracy of a single class below the given weights'; null in reports "
        "written before it was recorded",
    )
    within_bounds: bool | None = Field(
        None,
        description="whether mean and class accuracies fall by no more than the spec allows; null in reports written before it "
        "was recorded",
    )
    on_front: bool = Field(description="no other is as good in mean and worst class and better in one of them")


class PairedChange(Document):
    """One class on the same images before and after, by an exact McNemar test."""

    name: str
    before: float
    after: float
    gained: int = Field(description="images wrong before and right after")
    lost: int = Field(description="images right before and wrong after")
    p_value: float
    p_adjusted: float = Field(description="Holm's correction over the classes")
    verdict: Literal["better", "worse", "unclear"]


class Comparison(Document):
    """Clean or robust accuracy before and after, on the same images."""

    classes: tuple[PairedChange, ...]
    mean_change: Interval = Field(description="stratified paired bootstrap over images")
    worst_class_before: str
    worst_class_after: str
    worst_change: Interval = Field(
        description="smallest class rate after minus smallest before; bounds from both intervals"
    )


Outcome = Literal["better", "mixed", "worse", "unclear", "kept-original"]


class Fall(NamedTuple):
    """A significant fall of clean or robust accuracy: of a class, or of the mean (`name` is None); `change` is negative."""

    accuracy: Literal["clean", "robust"]
    name: str | None
    change: float


def falls(clean: Comparison, robust: Comparison) -> list[Fall]:
    """List what fell significantly on the test images: the means first, then classes, the largest fall first."""
    found: list[Fall] = []
    compared: tuple[tuple[Literal["clean", "robust"], Comparison], ...] = (("clean", clean), ("robust", robust))
    for accuracy, comparison in compared:
        if comparison.mean_change.high < 0:
            found.append(Fall(accuracy, None, comparison.mean_change.value))
        found += [
            Fall(accuracy, row.name, row.after - row.before) for row in comparison.classes if row.verdict == "worse"
        ]
    return sorted(found, key=lambda fall: (fall.name is not None, fall.change))


def worst_class_rose(robust: Comparison) -> bool:
    """Tell whether the class that was worst is significantly better, and the smallest class rate rose with it."""
    worst = next(row for row in robust.classes if row.name == robust.worst_class_before)
    return worst.verdict == "better" and robust.worst_change.value > 0


def _outcome(given: dict[str, Any]) -> Outcome:
    """Judge a fine-tuning by its report's fields that come before `outcome`.

    Bounded are both means and, where the spec bounds them, single classes: "better" needs that none of these fell.
    """
    if given.get("selected_candidate") == 0:
        return "kept-original"
    if not {"spec", "clean", "robust"} <= given.keys():
        return "unclear"  # the document is invalid, and its errors say so
    fallen = falls(given["clean"], given["robust"])
    if not worst_class_rose(given["robust"]):
        return "worse" if fallen else "unclear"
    classes_bounded = given["spec"].training.max_class_drop is not None
    return "mixed" if any(fall.name is None or classes_bounded for fall in fallen) else "better"


class FinetuneReport(Document):
    """What fine-tuning did: two audits on the same images, the way between them, and the comparison."""

    kind: Literal["finetune"] = "finetune"
    version: Literal[1] = 1
    product: str
    created_at: datetime
    seconds: float
    spec: FinetuneSpec
    training_dataset: DatasetSummary
    held_out_images: int
    warnings: tuple[ReliabilityWarning, ...] = Field(
        (), description="signs that this classifier cannot be fine-tuned to a useful one, found before the training"
    )
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    candidates: tuple[Candidate, ...] = Field(
        (), description="weights that could be kept: the given ones first, the best epoch's last"
    )
    selected_candidate: int | None = Field(
        None,
        description="number of the candidate that was kept, from 0: 0 is the given weights; null where the spec sets no bounds, "
        "and in reports written before it was recorded",
    )
    selected_share: float = Field(1.0, description="which of them was kept")
    selected_offsets: float = Field(0.0, description="which share of the class offsets was kept")
    class_offsets: tuple[float, ...] | None = Field(None, description="that share of them: added to each class's logit")
    whole_class_offsets: tuple[float, ...] | None = Field(
        None, description="all of the class offsets, of which candidates have shares; null where none were found"
    )
    trained_sha256: str | None = Field(
        None,
        description="of the best epoch's weights, from which other candidates are made; null in reports written before it was "
        "recorded",
    )
    before: AuditReport
    after: AuditReport = Field(description="the same as `before` where the original weights were kept")
    clean: Comparison
    robust: Comparison
    outcome: Outcome = Field(
        default_factory=_outcome,
        description="better: the worst class is significantly more robust, and no bounded accuracy fell significantly; mixed: "
        "the worst class is, and a bounded accuracy fell; worse: something fell, and the worst class is not significantly "
        "better; unclear: neither; kept-original: no candidate within the bounds made the worst class better on the held-out "
        "images, so no new weights were made",
    )

    @property
    def falls(self) -> list[Fall]:
        """What fell significantly on the test images, means first."""
        return falls(self.clean, self.robust)
