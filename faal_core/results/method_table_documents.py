"""Define the JSON document of a table of methods: fine-tunings of one model by several methods, each with several seeds."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from faal_core.results.document import Document
from faal_core.results.documents import AuditReport, DatasetSummary, Spread
from faal_core.results.finetune_documents import Outcome
from faal_core.specs import FinetuneSpec


class SeedSummary(Document):
    """Summarises one figure over the seeds of a method. `lowest` and `highest` are no confidence bounds."""

    mean: float = Field(description="Mean over the seeds.")
    lowest: float = Field(description="Smallest value of a seed.")
    highest: float = Field(description="Largest value of a seed.")


class SeedRow(Document):
    """Describes the fine-tuning with one seed by the audit of the weights that were kept."""

    seed: int = Field(description="Seed of the training.")
    job_id: str | None = Field(description="Id of the service's job; null outside of a service.")
    outcome: Outcome = Field(description="Result of the fine-tuning, as in its report.")
    clean: Spread = Field(description="Accuracy on the unchanged images, over the classes.")
    robust: Spread = Field(description="Accuracy on the images under all attacks, over the classes.")
    doubtful: tuple[str, ...] = Field(
        description="Codes of the warnings that the robust rates may be far too high, and `audit-stopped` where the attacks "
        "did not try every image."
    )
    epochs: float = Field(
        description="Number of epochs that were trained. It is below that of the spec where the time limit ended the training."
    )
    minutes: float = Field(
        description="Duration of both audits and the training in minutes, without earlier attempts of a resumed job."
    )


class MethodRow(Document):
    """Summarises the fine-tunings by one method: those whose specs differ in the seed of the training alone."""

    name: str = Field(
        description="Name of the method. If two methods have the same name, the fields that differ follow."
    )
    spec: FinetuneSpec = Field(description="Spec of the fine-tuning with the smallest seed.")
    seeds: tuple[SeedRow, ...] = Field(min_length=1, description="One row for each seed, in ascending order.")
    robust_worst: SeedSummary = Field(description="Robust accuracy of the worst class.")
    robust_worst_low: float = Field(
        description="Smallest over the seeds of the lower confidence bound of the worst class's robust accuracy."
    )
    robust_mean: SeedSummary = Field(description="Robust accuracy over all images.")
    clean_mean: SeedSummary = Field(description="Clean accuracy over all images.")
    robust_worst_change: SeedSummary = Field(
        description="Change of the worst class's robust accuracy against the given model. The worst classes may differ."
    )
    robust_mean_change: SeedSummary = Field(
        description="Change of the robust accuracy over all images against the given model."
    )
    clean_mean_change: SeedSummary = Field(
        description="Change of the clean accuracy over all images against the given model."
    )
    minutes: float = Field(description="Mean over the seeds of the minutes that a fine-tuning took.")


class MethodTable(Document):
    """Lists the methods that fine-tuned one model on the same images, judged by the same attacks."""

    kind: Literal["method-table"] = "method-table"
    version: Literal[1] = 1
    product: str = Field(description="Name and version of the program that wrote the report.")
    created_at: datetime = Field(description="Time at which the document was written, with its time zone.")
    given_model: AuditReport = Field(
        description="Audit of the given model, without its gallery, by the first of the fine-tunings."
    )
    training_dataset: DatasetSummary = Field(description="The training images, including the validation images.")
    methods: tuple[MethodRow, ...] = Field(
        min_length=1,
        description="One row for each method, the largest mean of the worst class's robust accuracy first.",
    )
    differences: tuple[str, ...] = Field(
        description="Differences between the fine-tunings beside method and seed, one sentence each. Rates of fine-tunings that "
        "differ in these may not be comparable."
    )
    missing: int = Field(
        0,
        ge=0,
        description="Number of fine-tunings of the study that have no report, because they have not ended, failed, were "
        "cancelled or were deleted. 0 for a table of reports without a study.",
    )

    @property
    def fine_tunings(self) -> int:
        """Return the number of fine-tunings in the table."""
        return sum(len(row.seeds) for row in self.methods)
