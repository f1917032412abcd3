"""Define the JSON documents of comparisons: of two audits by tests, and of any number by their intervals."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import Field

from faal_core.results.document import Document
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import Comparison, Fall, falls

Verdict = Literal["better", "worse", "unclear"]


class MeanTest(Document):
    """Tests the mean accuracy over all images."""

    p_value: float = Field(
        description="Of an exact McNemar test over all images; of the Cochran–Mantel–Haenszel test if the images differ."
    )
    p_adjusted: float = Field(description="p-value adjusted by Holm's method, together with those of the classes.")
    verdict: Verdict


class GroupComparison(Document):
    """Compares the groups of one column, whatever their classes. p-values are adjusted within the column."""

    column: str
    clean: Comparison
    robust: Comparison


class ComparisonReport(Document):
    """Reports the differences between two audits with the same radius and attacks.

    The p-values of all classes and means, clean and robust, are adjusted together. So the probability that any of these
    verdicts is a false alarm is at most 1 − `confidence`.
    """

    kind: Literal["comparison"] = "comparison"
    version: Literal[1] = 1
    product: str = Field(description="Name and version of the program that wrote the report.")
    created_at: datetime
    pairing: Literal["paired", "two-sample"] = Field(
        description="paired: both audits have the same images, and exact McNemar tests compare image by image. "
        "two-sample: Fisher's exact tests compare the counts of the two audits."
    )
    reason: str | None = Field(description="Why the audits are not paired; null where they are.")
    confidence: float
    before: AuditReport = Field(description="The first audit, without its gallery.")
    after: AuditReport = Field(description="The second audit, without its gallery.")
    clean: Comparison
    robust: Comparison
    clean_mean: MeanTest
    robust_mean: MeanTest
    groups: tuple[GroupComparison, ...] = Field(
        (), description="One entry for each column of groups that both audits have; none if they are not paired."
    )

    @property
    def outcome(self) -> Literal["better", "mixed", "worse", "unclear"]:
        """Return the conclusion over all verdicts on means and classes."""
        verdicts = {
            *(row.verdict for side in (self.clean, self.robust) for row in side.classes),
            self.clean_mean.verdict,
            self.robust_mean.verdict,
        } - {"unclear"}
        if len(verdicts) == 2:
            return "mixed"
        return "better" if "better" in verdicts else "worse" if verdicts else "unclear"

    @property
    def falls(self) -> list[Fall]:
        """Return the accuracies that fell significantly, means first."""
        means = {"clean": self.clean_mean, "robust": self.robust_mean}
        return [
            fall
            for fall in falls(self.clean, self.robust)
            if fall.name is not None or means[fall.accuracy].verdict == "worse"
        ]


class ModelTable(Document):
    """Lists audits of several models by the lower bound of their worst class, within each norm and radius."""

    kind: Literal["model-table"] = "model-table"
    version: Literal[1] = 1
    product: str = Field(description="Name and version of the program that wrote the report.")
    created_at: datetime
    audits: tuple[AuditReport, ...] = Field(
        description="The audits, without their galleries: smallest radius first, and within a radius the largest lower "
        "bound of the worst class first."
    )
    differences: tuple[str, ...] = Field(
        description="Differences between the audits beside model and radius, one sentence each. Rates of audits that "
        "differ in these are not comparable."
    )

    def by_radius(self) -> Iterator[tuple[str, list[AuditReport]]]:
        """Yield the audits of each norm and radius, with the radius as text."""
        groups: dict[str, list[AuditReport]] = {}
        for audited in self.audits:
            groups.setdefault(str(audited.spec.threat), []).append(audited)
        yield from groups.items()
