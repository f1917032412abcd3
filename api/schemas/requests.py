"""The bodies of requests: jobs with the library's specs, estimates, uploads, links, API keys and webhooks."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from faal_client.terms import JobTerms
from faal_client.vocabulary import Scope
from faal_core.specs import AuditSpec, FinetuneSpec, Policy, SequentialLimits, Spec
from jobs.comparisons import MOST_COMPARED
from jobs.settings import MAX_PRIORITY, POOL

Texts = TypeVar("Texts", dict[str, float], tuple[str, ...])

# PostgreSQL's text cannot store NUL, and names need no control characters.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[
    Line, Field(min_length=1, max_length=200, description="name for people", examples=["street signs, March"])
]
DatasetReference = Annotated[
    Line,
    Field(
        min_length=1,
        max_length=100,
        description="name in the catalog, or id of an uploaded data set",
        examples=["fashion-mnist-subset"],
    ),
]
METADATA_KEY = r"^[A-Za-z0-9_.-]{1,64}$"
MOST_DAYS = 3650  # until a key expires
MOST_NAMED_LIMITS = 30  # of a policy; for each, the number of images that would decide it costs up to 20 ms
MOST_TEXT = 200  # characters of a name or code in a policy
MOST_LINK_DAYS = 90  # until a link to a report expires
DAY = 86_400  # seconds
MOST_HOURS = 8760  # between two scheduled runs of a plan: a year
OWNER = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"  # ASCII only: no two owners look alike
Owner = Annotated[
    str,
    Field(
        pattern=OWNER,
        max_length=100,
        description="owner of the objects that are created with the key",
        examples=["vision-team"],
    ),
]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(pattern=METADATA_KEY)], Annotated[Line, Field(max_length=512)]],
    Field(
        max_length=16,
        description="up to 16 key-value pairs of your own, stored with the job",
        examples=[{"ticket": "ML-1204"}],
    ),
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
_COMPARE_EXAMPLE: JsonDict = {
    "jobs": ["job_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b", "job_0199d6a17bb04c3f8c1d2e3f4a5b6c7d"],
}
_POLICY_EXAMPLE: JsonDict = {"min_worst": 0.25, "min_clean": 0.8, "scope": {"epsilon": "8/255", "attacks": "fast"}}
_LINK_EXAMPLE: JsonDict = {"expires_in": 7 * DAY}
_PLAN_EXAMPLE: JsonDict = {
    "name": "street signs, weekly",
    "model_name": "street-signs",
    "dataset": "fashion-mnist-subset",
    "every_hours": 168,
    "threat": {"norm": "linf", "epsilon": "8/255"},
    "attacks": "pgd-20",
}
_PLAN_CHANGE_EXAMPLE: JsonDict = {"paused": False, "baseline": "job_0199d6a17bb04c3f8c1d2e3f4a5b6c7d"}
_KEY_EXAMPLE: JsonDict = {"owner": "vision-team", "name": "nightly audits", "scopes": ["read", "submit"], "days": 90}
_WEBHOOK_EXAMPLE: JsonDict = {"url": "https://example.com/faal"}


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(
            f"{time.isoformat()} is before the year 1 or after the year 9999 in UTC; give a time between them"
        ) from None


def _require_different(ids: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(ids)) < len(ids):
        raise ValueError("an id is listed twice; list each once")
    return ids


class JobRequest(Spec):
    """The fields that all jobs have: model, data set, metadata, priority, pool and limits."""

    model: Annotated[Line, Field(min_length=1, max_length=40, description="id of the model", examples=["model_0199…"])]
    dataset: DatasetReference
    metadata: Metadata = Field(default_factory=dict)
    priority: int = Field(
        0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Jobs of higher priority are taken first. A priority above the API key's `max_priority` (0 by default) is "
        "lowered to it; the answer has the priority of the job.",
    )
    pool: str | None = Field(
        None,
        pattern=POOL,
        description="pool of workers that may run the job, one of the site's pools; default: any worker",
    )
    budget_minutes: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="minutes of run time, over all attempts, after which the job ends with the results so far: an audit reports "
        "the attacks up to then, and a fine-tuning stops training early enough for its second audit",
    )
    deadline: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None,
        description="time at which the job ends with the results so far, as with `budget_minutes`; a job that no worker has "
        "started by then fails",
    )

    @property
    def terms(self) -> JobTerms:
        """Return metadata, priority, pool and limits."""
        return {
            "metadata": self.metadata,
            "priority": self.priority,
            "pool": self.pool,
            "budget_minutes": self.budget_minutes,
            "deadline": self.deadline,
        }


class FinetuneRequest(JobRequest, FinetuneSpec):
    """A fine-tuning: the model, the data set and the settings."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FINETUNE_EXAMPLE]})

    @property
    def spec(self) -> FinetuneSpec:
        """Return the spec alone, without the model and the data set."""
        return FinetuneSpec(
            preset=self.preset, threat=self.threat, method=self.method, training=self.training, audit=self.audit
        )


class _AuditSettings(AuditSpec):
    """The settings of an audit that the service runs."""

    @property
    def spec(self) -> AuditSpec:
        """Return the spec alone, without the model and the data set."""
        return AuditSpec.model_validate(self.model_dump(include=set(AuditSpec.model_fields)))


class AuditRequest(JobRequest, _AuditSettings):
    """An audit: the model, the data set and the settings."""

    model_config = ConfigDict(json_schema_extra={"examples": [_AUDIT_EXAMPLE]})

    transfer_from: Annotated[
        tuple[Annotated[Line, Field(min_length=1, max_length=40)], ...],
        Field(
            max_length=3,
            description="ids of other models with the same classes; attacks by their gradients follow those in `attacks`, for a "
            "model that hides its own gradients",
        ),
        AfterValidator(_require_different),
    ] = ()


class CompareRequest(Spec):
    """Jobs to compare."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMPARE_EXAMPLE]})

    jobs: Annotated[
        tuple[Annotated[Line, Field(min_length=1, max_length=40)], ...],
        Field(
            min_length=2,
            max_length=MOST_COMPARED,
            description="ids of audits and fine-tunings that have succeeded. Two are compared by tests, the first as the earlier "
            "one; more are listed in a table. Of a fine-tuning, the audit of the new weights is compared.",
        ),
        AfterValidator(_require_different),
    ]
    metadata: Metadata = Field(default_factory=dict)


class PolicyRequest(Policy):
    """A policy to judge a report by."""

    model_config = ConfigDict(json_schema_extra={"examples": [_POLICY_EXAMPLE]})

    @field_validator("min_class", "min_group", "accept_warnings")
    @classmethod
    def _bound_texts(cls, texts: Texts) -> Texts:
        if any(len(text) > MOST_TEXT for text in texts):
            raise ValueError(f"a name or code has more than {MOST_TEXT} characters")
        if any("\ud800" <= sign <= "\udfff" for text in texts for sign in text):  # JSON can write half of a character
            raise ValueError("a name or code is no text in UTF-8")
        return texts

    @model_validator(mode="after")
    def _bound_work(self) -> Self:
        names = len(self.min_class) + len(self.min_group)
        if names > MOST_NAMED_LIMITS:
            raise ValueError(
                f"the policy names {names:,} classes and groups, and a request may name {MOST_NAMED_LIMITS}; judge the report "
                "with `faal gate`"
            )
        return self


class AuditEstimate(AuditRequest):
    """An audit to estimate."""

    kind: Literal["audit"]


class FinetuneEstimate(FinetuneRequest):
    """A fine-tuning to estimate."""

    kind: Literal["finetune"]


class PlanRequest(_AuditSettings):
    """A plan to create: the model, the data set, the settings of its audits and the schedule."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PLAN_EXAMPLE]})

    name: Name
    model_name: Annotated[
        Line,
        Field(
            min_length=1,
            max_length=200,
            description="name of the models to audit; each of your models of this name is a version",
            examples=["street-signs"],
        ),
    ]
    dataset: DatasetReference
    policy: PolicyRequest | None = Field(
        None,
        description="requirements that each audit is judged by; its `baseline` limits falls below the baseline of the plan",
    )
    every_hours: int | None = Field(
        None,
        ge=1,
        le=MOST_HOURS,
        description="hours between two scheduled runs; default: the plan only audits new versions",
    )

    @field_validator("sequential")
    @classmethod
    def _refuse_sequential(cls, limits: SequentialLimits | None) -> SequentialLimits | None:
        if limits is not None:
            raise ValueError(
                "a plan compares audits of the same images, and a sequential audit chooses its images by its results; leave it "
                "out"
            )
        return limits


class PlanChange(Spec):
    """A change of a plan. Fields that are absent change nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PLAN_CHANGE_EXAMPLE]})

    paused: bool | None = Field(
        None,
        description="true: the plan starts no more runs by itself; false: it is active again; null changes nothing",
    )
    baseline: Annotated[Line, Field(min_length=1, max_length=40)] | None = Field(
        None,
        description="id of an audit with the data set and the settings of the plan; later audits are compared with it; null "
        "changes nothing",
    )
    policy: PolicyRequest | None = Field(
        None, description="requirements that later audits are judged by; null removes the policy"
    )


class UploadRequest(Spec):
    """A file to upload in parts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"size": 1_073_741_824}]})

    size: int = Field(ge=1, description="size of the whole file in bytes")


class LinkRequest(Spec):
    """A link to make, by which anybody reads the report of a job without an API key."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINK_EXAMPLE]})

    expires_in: int = Field(
        7 * DAY,
        ge=60,
        le=MOST_LINK_DAYS * DAY,
        description=f"seconds until the link expires, at most {MOST_LINK_DAYS} days; default: 7 days",
    )


class KeyRequest(Spec):
    """An API key to create: its owner, scopes, priority limit and lifetime."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_EXAMPLE]})

    owner: Owner
    name: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = Field(
        (Scope.READ, Scope.SUBMIT),
        description="scopes of the key. read: read the owner's jobs, models, data sets and reports; submit: upload, start, "
        "cancel and delete as the owner; metrics: read /metrics; admin: create, list and revoke the keys of all owners",
    )
    max_priority: int = Field(
        0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="highest priority of the jobs that are submitted with the key"
    )
    days: float | None = Field(
        90, gt=0, le=MOST_DAYS, description="days until the key expires; null: it is valid until it is revoked"
    )


class WebhookRequest(Spec):
    """A webhook to register."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WEBHOOK_EXAMPLE]})

    url: Annotated[
        HttpUrl,
        Field(
            max_length=2000,
            description="URL that receives the messages: https, with a public address",
            examples=["https://…"],
        ),
    ]
