"""The report documents: what an audit and a fine-tuning answer, as JSON. Fields are explained in docs/report.md.

Rates lie in [0, 1] and are computed from the counts beside them. Two runs of the same job on the same machine with the same
number of CPU threads differ in `seconds`, `created_at` and the ids of `provenance` only.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec


class Document(BaseModel):
    """A part of a report: complete, and never changed after it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(Document):
    """A share of images with its confidence interval (bounds hold for all classes together where there are several)."""

    count: int
    images: int
    rate: float
    low: float
    high: float


class Interval(Document):
    """An estimate with its confidence bounds."""

    value: float
    low: float
    high: float


class ClassRow(Document):
    """One class, or group: how many of its images are classified correctly, clean and after each attack in turn."""

    name: str
    images: int
    clean: Rate
    after_attack: tuple[Rate, ...] = Field(description="still correct after attacks 0..k, one per attack")
    robust: Rate = Field(description="correct clean and after every attack")

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """Without an attack and after all."""
        return self.clean, self.robust


class Spread(Document):
    """One accuracy (clean or robust) over the classes, or groups: its mean, its worst class, and how unequal the classes are."""

    mean: Rate = Field(description="over all images, Clopper–Pearson at the report's confidence")
    worst_class: str
    worst: Interval = Field(description="the smallest class rate; the interval covers the smallest true rate")
    gap: Interval = Field(description="mean of the class rates minus the smallest")
    gap_by_chance: float = Field(description="the gap that equal classes would stay below, at the report's confidence")
    tail_10: float = Field(description="mean of the lowest 10 % of the class rates, rounded up to whole classes")
    tail_20: float = Field(description="the same for 20 %")
    deviation: float = Field(description="standard deviation of the class rates")
    verdict: Literal["unequal", "no-evidence", "at-chance"] = Field(
        description="unequal: the gap exceeds what chance shows; at-chance: it does not, and the mean is no better than that of "
        "a classifier that gives every image the same class, or zero; no-evidence: neither"
    )


class GroupTable(Document):
    """The same images counted by the groups of one column, whatever their classes."""

    column: str
    groups: tuple[ClassRow, ...] = Field(description="those that have images, in alphabetical order")
    clean: Spread
    robust: Spread


class AttackRow(Document):
    """One attack of the audit: what it tried, broke and cost."""

    name: str
    tried: int
    untried: int = Field(0, description="of these, images that not all of its runs were made on: the audit was stopped")
    broken: int
    forward: int = Field(description="images passed forward through the network")
    backward: int = Field(description="images passed backward")
    seconds: float


class Confusion(Document):
    """How many images of one class were taken for another after the attacks."""

    true: str
    predicted: str
    count: int


class GalleryImage(Document):
    """An image that falls easily or that holds, as it is: without a perturbation."""

    kind: Literal["fragile", "hardest"] = Field(description="broken by an attack, or by none")
    row: int = Field(description="its place among the images judged, from 0")
    true: str
    margin: float = Field(
        description="probability of its class minus that of the likeliest other: of a fragile image as it is, of a hardest "
        "one the least under attack"
    )
    predicted: str | None = Field(None, description="what the attack made of it; null for a hardest one")
    attack: str | None = Field(None, description="the name of the one that broke it; null for a hardest one")
    distance: float | None = Field(None, description="norm of the perturbation; null for a hardest one")
    png: str = Field(description="in base64, at most 64 pixels on the longer side")


class ReliabilityWarning(Document):
    """A sign that the numbers below are not to be trusted."""

    code: str
    message: str
    evidence: str
    advice: str


class ClassifierSummary(Document):
    """What was judged."""

    name: str
    spec: ClassifierSpec
    parameters: int
    sha256: str = Field(description="of the weights: names, shapes and values")


class DatasetSummary(Document):
    """What it was judged on."""

    name: str
    part: Literal["train", "test"]
    images: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    sha256: str = Field(description="of the images and labels used; groups are not in it")


class Provenance(Document):
    """The job, the stored model, the software and the device that a report comes from."""

    job_id: str | None = Field(None, description="the service's job; null outside of a service")
    model_id: str | None = Field(None, description="the service's model that was audited; null where it has no id")
    faal: str = Field(description="version of FAAL")
    torch: str = Field(description="version of PyTorch")
    cuda: str | None = Field(description="version of CUDA that PyTorch was built for; null on a CPU")
    device: str = Field(description="cpu, or the name of the GPU")
    instruction_set: str = Field(description="widest vector instructions that PyTorch uses on the CPU, such as AVX2")
    threads: int = Field(description="CPU threads that PyTorch uses within one operation")


class AuditReport(Document):
    """Per-class accuracy of one classifier, clean and attacked."""

    kind: Literal["audit"] = "audit"
    version: Literal[1] = 1
    product: str = Field(description="name and version of what wrote it")
    created_at: datetime
    seconds: float
    classifier: ClassifierSummary
    dataset: DatasetSummary
    spec: AuditSpec
    first_look: bool = Field(
        default_factory=lambda fields: fields["spec"].is_first_look(len(fields["dataset"].class_names)),
        description="whether the attacks are weaker than the preset fast: robust rates are upper bounds from a first look",
    )
    warnings: tuple[ReliabilityWarning, ...]
    classes: tuple[ClassRow, ...]
    clean: Spread
    robust: Spread
    groups: tuple[GroupTable, ...] = Field((), description="one for each column of groups that the data set has")
    attacks: tuple[AttackRow, ...]
    confusion: tuple[Confusion, ...] = Field(description="robust-accuracy errors, most frequent first")
    adversarial_sha256: str = Field(
        "", description="of the adversarial images that were counted: their digests in the images' order, a line each"
    )
    provenance: Provenance | None = Field(None, description="where the report comes from; null in older documents")
    gallery: tuple[GalleryImage, ...] = Field(
        (),
        description="up to three fragile and three hardest images of each of the ten least robust classes, worst first",
    )

    @property
    def complete(self) -> bool:
        """Whether every attack was made on every image it was due on; otherwise the true robust accuracy may be lower still."""
        return not any(attack.untried for attack in self.attacks)


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
    epochs: tuple[EpochRow, ...]
    selected_epoch: int
    candidates: tuple[Candidate, ...] = Field((), description="weights between the given ones and those of that epoch")
    selected_share: float = Field(1.0, description="which of them was kept")
    selected_offsets: float = Field(0.0, description="which share of the class offsets was kept")
    class_offsets: tuple[float, ...] | None = Field(None, description="that share of them: added to each class's logit")
    before: AuditReport
    after: AuditReport
    clean: Comparison
    robust: Comparison


Report = Annotated[AuditReport | FinetuneReport, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[AuditReport | FinetuneReport] = TypeAdapter(Report)


def read_report(document: str | bytes) -> AuditReport | FinetuneReport:
    """The report in a JSON document. Raises: pydantic.ValidationError."""
    return _ADAPTER.validate_json(document)
