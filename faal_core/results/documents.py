"""The documents of audits, as JSON; those of fine-tunings build on them. Fields are explained in docs/report.md.

Rates lie in [0, 1] and are computed from the counts beside them. Two runs of the same job on the same machine with the same
number of CPU threads differ in `seconds`, `created_at` and the ids of `provenance` only.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from faal_core.catalog import Augmentation
from faal_core.specs import AuditSpec, ClassifierSpec


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
    sha256: str = Field(
        description="SHA-256 of the weights' names, types, shapes and values: the same for any file that holds them, and the "
        "`sha256` of the service's model; not that of a file"
    )


ClassOrder = Literal["stored", "natural", "string", "assumed-natural", "assumed-string", "matched"]


class DatasetSummary(Document):
    """What it was judged on."""

    name: str
    part: Literal["train", "validation", "test"]
    images: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_order: ClassOrder = Field(
        "stored",
        description="how the order of the classes was decided: stored: the data set's own labels; natural, string: the names in "
        "that order, as asked for or assumed; matched: by name, with the classes that the classifier names",
    )
    preparation: tuple[str, ...] = Field((), description="what was done to the stored images, one sentence each")
    sha256: str = Field(description="of the images and labels used; groups are not in it")
    augmentation: Augmentation | None = Field(
        None,
        description="the random changes of training images that preserve its labels; null in reports written before they were "
        "recorded",
    )


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
