"""The bodies of responses about studies and their jobs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from faal_client.resources.objects import Amount, ErrorBody, Resource
from faal_client.vocabulary import JobState
from faal_core.results.finetune_documents import Outcome


class StudyResource(Resource):
    """A study: fine-tunings of one model by several methods with several seeds, which are judged alike."""

    id: str = Field(examples=["study_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["study"] = "study"
    name: str
    model: str = Field(description="id of the given model")
    dataset: str
    methods: list[dict[str, Any]] = Field(description="settings of each method, including defaults")
    seeds: list[int] = Field(description="seeds of the training; each method has one job for each seed")
    done: int = Field(description="number of jobs that have ended, including deleted ones")
    total: int = Field(description="number of jobs, including deleted ones")
    states: dict[JobState, int] = Field(description="number of jobs in each state that a job of the study has")
    deleted: int = Field(description="number of jobs that were deleted")
    created_at: datetime


class StudyRunResource(Resource):
    """One method with one seed of a study, and its job."""

    job: str = Field(description="id of the fine-tuning; after a retry that of the new job")
    method: int = Field(description="index of the method in the study's `methods`, from 0")
    seed: int
    status: JobState | None = Field(description="state of the job; null: the job was deleted")
    stage: str | None = Field(description="present stage of a running job")
    progress: Amount | None
    outcome: Outcome | None = Field(description="outcome in the report; null until there is a report")
    robust_worst: float | None = Field(
        description="robust accuracy of the worst class after the fine-tuning; null until there is a report"
    )
    robust_mean: float | None = Field(
        description="mean robust accuracy after the fine-tuning; null until there is a report"
    )
    result_model: str | None = Field(description="id of the new model; null if the job kept the original weights")
    error: ErrorBody | None = Field(description="the reason why the job failed")


class StudyWithRuns(StudyResource):
    """A study with all of its jobs."""

    runs: list[StudyRunResource] = Field(description="one run for each method and seed, in this order")
