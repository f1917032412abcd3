"""The tables of plans, which audit the versions of a model again, and of their runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from jobs.clock import UtcDateTime, now
from jobs.tables import Problem, Table, new_id


class Plan(Table):
    """An audit that runs again for each new version of a model, and on a schedule."""

    __tablename__ = "plans"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("plan"))
    owner: Mapped[str]
    name: Mapped[str]
    model_name: Mapped[str]  # the models of this name are the versions
    dataset: Mapped[str]  # a catalog name or a data set's id
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    policy: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    max_priority: Mapped[int]  # of its runs, as the API key that created the plan may have
    every_hours: Mapped[int | None]
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # the next scheduled run; null without a schedule
    seen_model_id: Mapped[str]  # the newest version that was audited or skipped
    run_job_id: Mapped[str | None]  # the audit of the run that has not ended
    baseline_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[Problem | None] = mapped_column(JSON(none_as_null=True))  # why the service paused it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class PlanRun(Table):
    """A run of a plan: an audit, and its comparison with the baseline. Rows stay when their jobs are deleted."""

    __tablename__ = "plan_runs"
    __table_args__ = (Index(None, "plan_id", "job_id"),)

    job_id: Mapped[str] = mapped_column(primary_key=True)  # no foreign key: the history outlasts its jobs
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    owner: Mapped[str]
    model_id: Mapped[str]
    trigger: Mapped[str]
    worst_class: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    robust_mean: Mapped[float | None]
    gate: Mapped[str | None]  # the status by the plan's policy
    baseline_job_id: Mapped[str | None]  # the audit that it is compared with; null for the first run
    comparison_id: Mapped[str | None]  # the job that compares the two
    verdict: Mapped[str | None]
    worst_change: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # against the baseline
    mean_change: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    falls: Mapped[int | None]  # number of accuracies that fell significantly
    doubtful: Mapped[list[str] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # codes of warnings that put falls in doubt
    doubtful_falls: Mapped[int | None]  # number of falls in doubt
    error: Mapped[Problem | None] = mapped_column(JSON(none_as_null=True))  # why there is no audit, comparison or gate
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
