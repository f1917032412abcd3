"""Define the JSON documents of audits; those of fine-tunings build on them. docs/reference/report.md explains every field.

Rates are in [0, 1] and are computed from the counts beside them. Two runs of the same job on the same machine with the
same number of CPU threads differ only in `seconds`, `created_at`, `resumed` and the ids of `provenance`.
"""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from faal_core import __version__
from faal_core.catalog import Augmentation
from faal_core.results.document import Document, Fraction, Images
from faal_core.results.sequential_documents import SequentialResult
from faal_core.specs import AttackSpec, AuditSpec, ClassifierDescription, Escalation

PRODUCT = f"FAAL {__version__}"
"""Name and version of the program, in every document that it writes."""


class Rate(Document):
    """Gives the fraction of images that are classified correctly, with its confidence interval.

    Where there are several classes, the bounds of a column hold for all classes together.
    """

    count: int = Field(ge=0)
    images: Images
    rate: Fraction
    low: Fraction
    high: Fraction

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if self.count > self.images:
            raise ValueError(f"{self.count} correct images are more than the {self.images} images")
        return self


class Interval(Document):
    """Gives an estimate with its confidence bounds."""

    value: float
    low: float
    high: float


class ClassRow(Document):
    """Counts, for one class or group, the images that are classified correctly: clean and after each attack in turn."""

    name: str
    images: Images
    clean: Rate
    after_attack: tuple[Rate, ...] = Field(description="Accuracy after attacks 0..k, one entry per attack k.")
    robust: Rate = Field(
        description="Fraction of the images that are classified correctly clean and after every attack. Certified images "
        "count as robust without an attack."
    )
    certified: Rate | None = Field(
        None,
        description="Fraction of the images for which bounds prove that no perturbation within the threat model changes the "
        "class. The true robust accuracy on these images of the class is between this rate and `robust`. Null without bounds.",
    )

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        rates = (self.clean, *self.after_attack, self.robust, *([self.certified] if self.certified else []))
        if any(rate.images != self.images for rate in rates):
            raise ValueError(f"the rates of {self.name!r} have other numbers of images than {self.images}")
        return self

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """Return the accuracy without an attack and after all attacks."""
        return self.clean, self.robust


class Spread(Document):
    """Summarises one accuracy (clean or robust) over the classes or groups: mean, worst class, and inequality."""

    mean: Rate = Field(
        description="Accuracy over all images, with a Clopper–Pearson interval at the report's confidence. In a sequential "
        "audit, mean of the class rates weighted by the images that were available, with the weighted means of their bounds."
    )
    worst_class: str = Field(
        description="Name of the class with the lowest accuracy; the first in label order of several."
    )
    worst: Interval = Field(description="Smallest class rate; its interval covers the smallest true class rate.")
    gap: Interval = Field(description="Mean of the class rates minus the smallest class rate.")
    gap_by_chance: float | None = Field(
        description="Gap that classes of equal accuracy would stay below, at the report's confidence. Null in a "
        "sequential audit, because its numbers of images depend on the rates."
    )
    tail_10: float = Field(description="Mean of the lowest 10 % of the class rates, rounded up to whole classes.")
    tail_20: float = Field(description="Mean of the lowest 20 % of the class rates, rounded up to whole classes.")
    deviation: float = Field(description="Standard deviation of the class rates.")
    verdict: Literal["unequal", "no-evidence", "at-chance"] = Field(
        description="Statistical conclusion about the classes. unequal: the gap exceeds `gap_by_chance`; in a sequential "
        "audit, its lower bound is above 0. at-chance: the classes are not shown to be unequal, and the mean is zero or no "
        "better than that of a classifier that gives every image the same class. no-evidence: neither of the two."
    )


class GroupTable(Document):
    """Counts the same images by the groups of one column, whatever their classes."""

    column: str
    groups: tuple[ClassRow, ...] = Field(min_length=1, description="Groups that have images, in alphabetical order.")
    clean: Spread
    robust: Spread


class AttackRow(Document):
    """Counts the images that one attack of the audit tried and broke, and its cost."""

    name: str
    tried: int
    untried: int = Field(
        0,
        description="Number of the tried images that some runs of the attack did not reach, because the audit was "
        "stopped.",
    )
    broken: int
    forward: int = Field(
        description="Number of images passed forward through the network, and through the source of a transfer attack."
    )
    backward: int = Field(description="Number of images passed backward, for gradients, through either network.")
    seconds: float


class Confusion(Document):
    """Counts the images of one class that were taken for another class after the attacks."""

    true: str
    predicted: str
    count: int


class GalleryImage(Document):
    """Shows an image that breaks easily or that holds, without a perturbation."""

    kind: Literal["fragile", "hardest"] = Field(
        description="fragile: an attack broke the image; hardest: no attack broke it."
    )
    row: int = Field(description="Place of the image among the audited images, from 0.")
    true: str
    margin: float = Field(
        description="Probability of the image's class minus that of the likeliest other class. For a fragile image: "
        "without an attack. For a hardest image: the smallest value under attack."
    )
    predicted: str | None = Field(None, description="Class predicted after the attack; null for a hardest image.")
    attack: str | None = Field(None, description="Name of the attack that broke the image; null for a hardest image.")
    distance: float | None = Field(
        None, description="Norm of the perturbation that broke the image; null for a hardest image."
    )
    png: str = Field(
        description="The image without a perturbation: PNG in base64, at most 64 pixels on the longer side."
    )


class ReliabilityWarning(Document):
    """Gives a sign that the report's numbers cannot be trusted."""

    code: str
    message: str
    evidence: str
    advice: str


class ClassifierSummary(Document):
    """Describes the classifier that was audited."""

    name: str
    spec: ClassifierDescription
    parameters: int
    sha256: str = Field(
        description="SHA-256 of the weights' names, types, shapes and values. It is the same for every file that "
        "holds these weights, and equals the `sha256` of the service's model. It is not the digest of a file."
    )

    @field_validator("spec", mode="before")
    @classmethod
    def _describe(cls, spec: object) -> object:
        """Return the fields of a spec, so that a new report equals the one that is read back from its JSON."""
        return spec.model_dump() if isinstance(spec, ClassifierDescription) else spec


ClassOrder = Literal["stored", "natural", "string", "assumed-natural", "assumed-string", "matched"]


class DatasetSummary(Document):
    """Describes the images that the classifier was audited or trained on."""

    name: str
    part: Literal["train", "validation", "test"]
    images: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_order: ClassOrder = Field(
        "stored",
        description="How the order of the classes was decided. stored: by the data set's own labels. natural, string: "
        "names in numerical or alphabetical order, as requested. assumed-natural, assumed-string: the same order, but "
        "assumed. matched: by name, in the order of the classifier's classes.",
    )
    preparation: tuple[str, ...] = Field((), description="Changes made to the stored images, one sentence each.")
    sha256: str = Field(description="SHA-256 of the images and labels that were used; groups are not part of it.")
    augmentation: Augmentation | None = Field(
        None,
        description="Random changes of training images that preserve the data set's labels; null in older reports.",
    )


class Provenance(Document):
    """Names the job, the stored model, the software and the device that a report comes from."""

    job_id: str | None = Field(None, description="Id of the service's job; null outside of a service.")
    model_id: str | None = Field(
        None, description="Id of the service's model that was audited; null where it has no id."
    )
    faal: str = Field(description="Version of FAAL.")
    torch: str = Field(description="Version of PyTorch.")
    cuda: str | None = Field(description="Version of CUDA that PyTorch was built for; null on a CPU.")
    device: str = Field(description="cpu, or the name of the GPU.")
    instruction_set: str = Field(description="Widest vector instructions that PyTorch uses on the CPU, such as AVX2.")
    threads: int = Field(description="Number of CPU threads that PyTorch uses within one operation.")
    processes: int | None = Field(
        None,
        description="Number of processes that computed batches at a time. Null in reports of earlier versions, and where a "
        "program computed batches in its own way.",
    )


class AuditReport(Document):
    """Reports the per-class accuracy of one classifier, clean and under attack."""

    kind: Literal["audit"] = "audit"
    version: Literal[1] = 1
    product: str = Field(description="Name and version of the program that wrote the report.")
    created_at: datetime
    seconds: float
    resumed: bool | None = Field(
        None,
        description="Whether an earlier run of this audit had started, so that `seconds` is the duration of the last run "
        "alone. Null in older reports, where this is not known.",
    )
    classifier: ClassifierSummary
    dataset: DatasetSummary
    spec: AuditSpec
    first_look: bool = Field(
        default_factory=lambda fields: fields["spec"].is_first_look(len(fields["dataset"].class_names)),
        description="Whether the attacks are weaker than the preset fast. If so, stronger attacks may lower the "
        "robust rates by several points.",
    )
    warnings: tuple[ReliabilityWarning, ...]
    escalation: Escalation | None = Field(
        None, description="Attacks that followed warnings about gradients. Null if no warning led to further attacks."
    )
    classes: tuple[ClassRow, ...] = Field(min_length=1)
    clean: Spread
    robust: Spread
    groups: tuple[GroupTable, ...] = Field((), description="One table per column of groups in the data set.")
    attacks: tuple[AttackRow, ...]
    confusion: tuple[Confusion, ...] = Field(description="Mistakes on images that are not robust, most frequent first.")
    sequential: SequentialResult | None = Field(
        None,
        description="The result of a sequential audit. Null where the spec has no `sequential`: the audit used all images.",
    )
    adversarial_sha256: str = Field(
        "",
        description="SHA-256 of a text with one line for each image, in the order of the images. The line of an image that an "
        "attack broke is the SHA-256 of the adversarial image in hexadecimal. The line of any other image is empty.",
    )
    outcomes_sha256: str = Field(
        "",
        description="SHA-256 of the outcomes of the images, which are stored beside the report, in a Parquet file. All "
        "statistics of the report can be recomputed from them. It is computed from the values, not from the bytes of "
        "the file. Empty in older reports.",
    )
    provenance: Provenance | None = Field(
        None, description="Software and device that computed the report; null in older reports."
    )
    gallery: tuple[GalleryImage, ...] = Field(
        (),
        description="Up to three fragile and three hardest images of each of the ten least robust classes, worst "
        "first.",
    )

    @property
    def attack_specs(self) -> tuple[AttackSpec, ...]:
        """Return the specs of `attacks`: those of the spec, then those of the escalation."""
        return (*self.spec.attacks, *(self.escalation.attacks if self.escalation else ()))

    @property
    def complete(self) -> bool:
        """Return whether every attack reached every image left for it.

        Otherwise the true robust accuracy may be lower still.
        """
        return not any(attack.untried for attack in self.attacks)
