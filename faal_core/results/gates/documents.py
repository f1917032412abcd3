"""Define the JSON document of a gate: a policy, and whether an audit meets each of its requirements."""

from typing import Literal, Self

from pydantic import Field

from faal_core.results.document import Document, Status
from faal_core.results.documents import AuditReport
from faal_core.specs import Policy
from faal_core.threat_model import Norm, ThreatModel


class AuditIdentity(Document):
    """Names an audit: what was audited, on which images, and how strongly."""

    job_id: str | None = Field(description="Id of the service's job; null outside of a service.")
    classifier: str = Field(description="Name of the classifier.")
    classifier_sha256: str = Field(description="SHA-256 of the weights.")
    dataset: str = Field(description="Name of the data set.")
    dataset_sha256: str = Field(description="SHA-256 of the images and labels.")
    images: int = Field(description="Number of audited images.")
    norm: Norm = Field(description="Norm of the perturbations.")
    epsilon: float = Field(description="Radius of the perturbations.")
    attacks: tuple[str, ...] = Field(description="Names of the attacks, in their order.")

    @classmethod
    def from_report(cls, report: AuditReport) -> Self:
        """Return the identity of the audit that the report is about."""
        return cls(
            job_id=report.provenance.job_id if report.provenance else None,
            classifier=report.classifier.name,
            classifier_sha256=report.classifier.sha256,
            dataset=report.dataset.name,
            dataset_sha256=report.dataset.sha256,
            images=report.dataset.images,
            norm=report.spec.threat.norm,
            epsilon=report.spec.threat.epsilon,
            attacks=tuple(attack.name for attack in report.attacks),
        )

    @property
    def threat(self) -> ThreatModel:
        """Return the norm and the radius."""
        return ThreatModel(norm=self.norm, epsilon=self.epsilon)


class RequirementResult(Document):
    """Says whether an audit meets one requirement of a policy."""

    name: str = Field(
        description="Field of the policy that states the requirement, such as `min_worst` or `scope.epsilon`. "
        "Those of a baseline are `baseline.clean.mean`, `baseline.clean.classes`, `baseline.robust.mean` and "
        "`baseline.robust.classes`."
    )
    subject: str | None = Field(
        None,
        description="Name of the class, or of the column of groups, that the requirement is about; null where it is about all.",
    )
    limit: float | str = Field(description="Limit in the policy. For `baseline` it is the tolerance.")
    value: float | str | None = Field(
        description="Measured value. For `baseline` it is the fall: the rate of the baseline minus that of the report. Where no "
        "class fell, it is that of the class whose fall could be largest."
    )
    low: float | None = Field(None, description="Lower bound of the value; null in the scope.")
    high: float | None = Field(None, description="Upper bound of the value; null in the scope.")
    p_adjusted: float | None = Field(
        None, description="For `baseline`: p-value of a fall beyond the tolerance, adjusted by Holm's method."
    )
    status: Status = Field(
        description="pass: the requirement is met, at the policy's confidence. fail: it is not met, at the policy's "
        "confidence. undecided: neither follows from the audit."
    )
    sentence: str = Field(description="The result in words.")
    images_to_decide: int | None = Field(
        None,
        description="Number of images that decides an undecided requirement with a probability of 80 %, if the measured "
        "rates are the true ones: images per class or group, in total for `min_robust` and `min_clean`. It is larger than "
        "the number of audited images of each class that is undecided. Null where no number of images up to 10 million "
        "decides it.",
    )


class GateResult(Document):
    """Judges an audit by a policy. The same policy and reports always give the same result."""

    kind: Literal["gate"] = "gate"
    version: Literal[1] = 1
    policy: Policy = Field(description="The policy, with its defaults.")
    audit: AuditIdentity = Field(description="The audit that was judged.")
    baseline: AuditIdentity | None = Field(None, description="The audit that it was compared with.")
    baseline_warnings: tuple[str, ...] = Field(
        (), description="Codes of the warnings of the baseline's audit, in alphabetical order."
    )
    baseline_complete: bool | None = Field(
        None,
        description="Whether every attack reached every image left for it in the baseline's audit; null without a baseline.",
    )
    interval_confidence: float = Field(
        description="Confidence of the intervals of one kind together. It is stricter than the policy's where the policy "
        "has requirements of several kinds."
    )
    requirements: tuple[RequirementResult, ...] = Field(description="One entry for each requirement, the scope first.")
    status: Status = Field(
        description="fail: at least one requirement is not met. undecided: none is known to be unmet, and at least one is "
        "undecided. pass: all requirements are met."
    )
    passed: bool = Field(
        description="Whether the gate lets the audit pass: all requirements are met, or the policy lets undecided ones pass."
    )
