"""The bodies of responses about plans and their runs, and of the message about a fall."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from faal_client.resources.objects import ErrorBody, Resource
from faal_client.vocabulary import JobState, RunTrigger


class PlanResource(Resource):
    """A plan: an audit that runs again for each new version of a model, and on a schedule."""

    id: str = Field(examples=["plan_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["plan"] = "plan"
    name: str
    model_name: str = Field(description="name of the models that the plan audits; each model of this name is a version")
    dataset: str
    spec: dict[str, Any] = Field(description="all settings of the audits, including defaults")
    policy: dict[str, Any] | None = Field(description="requirements that each audit is judged by")
    every_hours: int | None = Field(description="hours between two scheduled runs; null: the plan has no schedule")
    next_run_at: datetime | None = Field(
        description="time of the next scheduled run; null: the plan has no schedule, or is paused"
    )
    baseline: str | None = Field(
        description="id of the audit that later audits are compared with; null until the first run has succeeded"
    )
    current_run: str | None = Field(description="id of the audit of the run that has not ended")
    paused_at: datetime | None = Field(
        description="time at which the owner or the service paused the plan; null: it is active"
    )
    error: ErrorBody | None = Field(description="the reason why the service paused the plan")
    created_at: datetime


class WorstClass(Resource):
    """The class with the lowest robust accuracy."""

    name: str
    rate: float = Field(description="robust accuracy of the class, from 0 to 1")
    low: float = Field(description="lower bound of the smallest true class rate")
    high: float = Field(description="upper bound of the smallest true class rate")


class Change(Resource):
    """The change of an accuracy against the baseline, with its bounds."""

    value: float = Field(description="accuracy of the run minus that of the baseline")
    low: float = Field(description="lower bound of the change")
    high: float = Field(description="upper bound of the change")


class PlanRunResource(Resource):
    """A run of a plan: an audit of one version, and its comparison with the baseline."""

    job: str = Field(description="id of the audit")
    model: str = Field(description="id of the audited version")
    trigger: RunTrigger
    status: JobState | None = Field(description="state of the audit; null: the audit was deleted")
    worst_class: WorstClass | None = Field(description="worst class of the audit; null until the audit has succeeded")
    robust_mean: float | None = Field(
        description="robust accuracy over all images, from 0 to 1; null until the audit has succeeded, and for runs that "
        "ended before the service stored this figure"
    )
    gate: Literal["pass", "fail", "undecided"] | None = Field(
        description="result of the audit by the policy of the plan; null without a policy, and until the audit was judged"
    )
    baseline: str | None = Field(
        description="id of the audit that it is compared with; null for the audit that became the baseline"
    )
    comparison: str | None = Field(description="id of the job that compares the two audits")
    verdict: Literal["better", "mixed", "worse", "unclear"] | None = Field(
        description="conclusion of the comparison over all means and classes; null where there is no comparison yet"
    )
    worst_change: Change | None = Field(
        description="change of the smallest robust class rate; null where there is no comparison yet, and for runs that ended "
        "before the service stored this figure"
    )
    mean_change: Change | None = Field(
        description="change of the robust accuracy over all images; null where there is no comparison yet, and for runs that "
        "ended before the service stored this figure"
    )
    falls: int | None = Field(description="number of clean and robust accuracies that fell significantly")
    doubtful: list[str] | None = Field(
        description="codes of the warnings that rates of the baseline may be far too high, so that falls may only be a better "
        "measurement, e.g. `zero-gradient`; null where there is no comparison yet"
    )
    doubtful_falls: int | None = Field(description="number of `falls` about which there is this doubt")
    error: ErrorBody | None = Field(description="the reason why there is no audit, no comparison or no `gate`")
    created_at: datetime


class PlanHistory(PlanResource):
    """A plan with its newest runs."""

    runs: list[PlanRunResource] = Field(description="the last 100 runs, newest first")


class FallenAccuracy(BaseModel):
    """An accuracy that fell significantly."""

    accuracy: Literal["clean", "robust"]
    class_name: str | None = Field(alias="class", description="name of the class; null for the mean over all images")
    before: float = Field(description="accuracy in the baseline, from 0 to 1")
    after: float = Field(description="accuracy in the new audit, from 0 to 1")
    p_adjusted: float = Field(description="p-value adjusted over all means and classes, as in the comparison")
    doubtful: list[str] = Field(
        description="codes of the warnings that the accuracy in the baseline may be far too high; empty: none"
    )


class FallenAudit(BaseModel):
    """An audit of a plan in which accuracies fell significantly below the baseline."""

    object: Literal["fallen-audit"]
    plan: str = Field(description="id of the plan")
    plan_name: str
    model: str = Field(description="id of the audited version")
    model_name: str
    job: str = Field(description="id of the audit")
    baseline: str = Field(description="id of the audit that it was compared with")
    comparison: str = Field(description="id of the job whose report has all numbers")
    confidence: float = Field(description="confidence of all conclusions of the comparison together")
    count: int = Field(description="number of accuracies that fell significantly")
    doubtful: list[str] = Field(
        description="codes of the warnings that rates of the baseline may be far too high, so that falls may only be a better "
        "measurement; empty: none"
    )
    doubtful_count: int = Field(description="number of accuracies about whose fall there is this doubt")
    falls: list[FallenAccuracy] = Field(
        max_length=100, description="the accuracies that fell: means first, then the largest falls, at most 100"
    )
