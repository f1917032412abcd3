"""What jobs are asked for with, as JSON: a spec of the library's, what it is about, and how it is run."""

from datetime import UTC, datetime
from typing import Annotated, TypedDict

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from api.schemas.resources import Line
from faal_core.specs import AuditSpec, FinetuneSpec, Spec
from jobs.settings import MAX_PRIORITY, POOL

METADATA_KEY = r"^[A-Za-z0-9_.-]{1,64}$"
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(pattern=METADATA_KEY)], Annotated[Line, Field(max_length=512)]],
    Field(max_length=16, description="up to 16 pairs of your own, kept with the job", examples=[{"ticket": "ML-1204"}]),
]

_FINETUNE_EXAMPLE: JsonDict = {
    "model": "model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b",
    "dataset": "fashion-mnist-subset",
    "threat": {"norm": "linf", "epsilon": "8/255"},
    "method": {"type": "faal", "dro_radius": 0.2},
    "training": {"learning_rates": [0.002, 0.0002]},
    "audit": {"attacks": "pgd-20"},
    "metadata": {"ticket": "ML-1204"},
}
_AUDIT_EXAMPLE: JsonDict = {
    "model": "model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b",
    "dataset": "fashion-mnist-subset",
    "threat": {"norm": "linf", "epsilon": "8/255"},
    "attacks": "pgd-20",
}


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("this is before the year 1 or after the year 9999 in UTC") from None


class Terms(TypedDict, total=False):
    """How a job is run: what `JobRequest` has beside what it is about, all with defaults."""

    metadata: dict[str, str]
    priority: int
    pool: str | None
    budget_minutes: float | None
    deadline: datetime | None


class JobRequest(Spec):
    """What a job is about and how it is run."""

    model: Annotated[Line, Field(min_length=1, max_length=40, description="a model's id", examples=["model_0199…"])]
    dataset: Annotated[
        Line,
        Field(
            min_length=1,
            max_length=100,
            description="a catalog name or a data set's id",
            examples=["fashion-mnist-subset"],
        ),
    ]
    metadata: Metadata = Field(default_factory=dict)
    priority: int = Field(
        0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Jobs of higher priority are taken first. An API key has a highest priority, 0 by default, which replaces a "
        "higher one; the answer shows the priority that the job has.",
    )
    pool: str | None = Field(
        None, pattern=POOL, description="of the workers that may take it, one of the site's; any when absent"
    )
    budget_minutes: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="minutes of running, in all attempts together, after which the job ends with what it has: an audit with the "
        "attacks made until then, a fine-tuning trained as far as leaves time for its second audit",
    )
    deadline: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None, description="likewise a time; a job that no worker has begun until then fails"
    )

    @property
    def terms(self) -> Terms:
        """How the job is run."""
        return {
            "metadata": self.metadata,
            "priority": self.priority,
            "pool": self.pool,
            "budget_minutes": self.budget_minutes,
            "deadline": self.deadline,
        }


class FinetuneRequest(JobRequest, FinetuneSpec):
    """A model to fine-tune, the data to do it with, and how."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FINETUNE_EXAMPLE]})

    @property
    def spec(self) -> FinetuneSpec:
        """What is asked for, without what it is asked about."""
        return FinetuneSpec(
            preset=self.preset, threat=self.threat, method=self.method, training=self.training, audit=self.audit
        )


class AuditRequest(JobRequest, AuditSpec):
    """A model to judge, the data to do it with, and how."""

    model_config = ConfigDict(json_schema_extra={"examples": [_AUDIT_EXAMPLE]})

    @property
    def spec(self) -> AuditSpec:
        """What is asked for, without what it is asked about."""
        return AuditSpec.model_validate(self.model_dump(include=set(AuditSpec.model_fields)))
