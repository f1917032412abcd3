"""The bodies of responses about jobs, models, data sets and the service, and pages of them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from faal_core.results.finetune_documents import Outcome
from jobs import paging
from jobs.states import JobKind, JobState, UploadState
from jobs.tables import Dataset, Job, JobEvent, Model

# PostgreSQL's text cannot store NUL, and names need no control characters.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[
    Line, Field(min_length=1, max_length=200, description="name for people", examples=["street signs, March"])
]


class Resource(BaseModel):
    """An object of the service, in its state at the time of the answer."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)


class ErrorBody(Resource):
    """The reason why a job failed or an upload was rejected: a stable code and a message for people."""

    code: str = Field(description="stable code, explained at `/problems/{code}`", examples=["training-diverged"])
    message: str = Field(description="the cause and the remedy, for people")

    @classmethod
    def from_stored(cls, stored: Mapping[str, object] | None) -> Self | None:
        """Return the error that a row has, or None."""
        return None if stored is None else cls.model_validate(stored)


class Amount(Resource):
    """The progress of the present stage in images, and the time that the audit still takes."""

    done: int = Field(description="images done in the present stage")
    total: int | None = Field(description="images of the present stage; null if unknown")
    seconds_left: float | None = Field(
        description="estimated maximum of the seconds that the whole audit still takes; null if unknown"
    )

    @classmethod
    def from_row(cls, job: Job) -> Self | None:
        """Return the progress of a running job's stage, or None."""
        running = job.state is JobState.RUNNING and job.done is not None
        return cls(done=job.done, total=job.total, seconds_left=job.seconds_left) if running else None


class JobResource(Resource):
    """A job: its request and its state."""

    id: str = Field(examples=["job_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["job"] = "job"
    kind: JobKind
    status: JobState
    model: str | None
    dataset: str | None
    spec: dict[str, Any] = Field(description="all settings that the result depends on, including defaults")
    metadata: dict[str, str]
    priority: int
    pool: str | None = Field(description="pool of workers that may run the job; null: any worker")
    budget_minutes: float | None
    deadline: datetime | None
    seconds_run: float = Field(description="seconds of run time in all attempts, as last reported by the worker")
    gpu_bytes: int | None = Field(description="peak GPU memory of the last attempt in bytes; null if it used no GPU")
    stage: str | None = Field(description="present stage of a running job")
    progress: Amount | None
    attempt: int = Field(description="number of times a worker has started the job")
    cancel_requested: bool
    pause_requested: bool
    retry_of: str | None = Field(description="id of the job that this job retries")
    result_model: str | None = Field(
        description="id of the new model of a fine-tuning that succeeded; null if it kept the original weights"
    )
    outcome: Outcome | None = Field(
        description="outcome of a fine-tuning, as in its report; null until there is a report"
    )
    falls: int | None = Field(
        description="number of clean and robust accuracies, of means and classes, that a fine-tuning made significantly worse"
    )
    error: ErrorBody | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, job: Job) -> Self:
        """Return the job of a row."""
        return cls(
            id=job.id,
            kind=job.kind,
            status=job.state,
            model=job.model_id,
            dataset=job.dataset,
            spec=job.spec,
            metadata=job.metadata_,
            priority=job.priority,
            pool=job.pool,
            budget_minutes=job.budget_minutes,
            deadline=job.deadline,
            seconds_run=job.seconds_run,
            gpu_bytes=job.gpu_bytes,
            stage=job.stage if job.state is JobState.RUNNING else None,
            progress=Amount.from_row(job),
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            pause_requested=job.pause_requested,
            retry_of=job.retry_of,
            result_model=job.result_model_id,
            outcome=(job.finding or {}).get("outcome"),
            falls=(job.finding or {}).get("falls"),
            error=ErrorBody.from_stored(job.error),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ClassifierBody(Resource):
    """The fields of ClassifierSpec of a stored classifier, whose architecture this version may no longer offer."""

    architecture: str = Field(examples=["preact_resnet18"])
    num_classes: int
    mean: tuple[float, ...] = Field(description="mean of each channel, for pixels in [0, 1]")
    std: tuple[float, ...] = Field(description="standard deviation of each channel")
    arguments: dict[str, int] = Field(description="arguments of the architecture")
    class_names: tuple[str, ...] | None


class ModelResource(Resource):
    """A stored classifier: uploaded, or made by a fine-tuning (then it has parents)."""

    id: str = Field(examples=["model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["model"] = "model"
    name: str
    status: UploadState
    spec: ClassifierBody
    sha256: str | None = Field(
        description="SHA-256 of the weights' names, types, shapes and values: the `classifier.sha256` of every report on this "
        "model, for every format of the uploaded file. Null until the file was checked, and for models checked by a version "
        "that did not store it."
    )
    file_sha256: str | None = Field(
        description="SHA-256 of the safetensors file that `GET /models/{id}/weights` returns, once the upload was checked. The "
        "file also holds the spec, so this differs from `sha256`."
    )
    parent_model: str | None = Field(description="id of the model it was fine-tuned from")
    parent_job: str | None = Field(description="id of the job that fine-tuned it")
    candidate: int | None = Field(
        description="index in the `candidates` of the report of `parent_job`, if the model was made from a candidate"
    )
    error: ErrorBody | None = Field(description="the reason why the model was rejected")
    created_at: datetime

    @classmethod
    def from_row(cls, model: Model) -> Self:
        """Return the model of a row."""
        return cls(
            id=model.id,
            name=model.name,
            status=model.state,
            spec=ClassifierBody.model_validate(model.spec),
            sha256=model.weights_sha256,
            file_sha256=model.sha256,
            parent_model=model.parent_model_id,
            parent_job=model.parent_job_id,
            candidate=model.candidate,
            error=ErrorBody.from_stored(model.error),
            created_at=model.created_at,
        )


class DatasetResource(Resource):
    """An uploaded data set."""

    id: str = Field(examples=["dataset_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["dataset"] = "dataset"
    name: str
    status: UploadState
    sha256: str | None = Field(description="SHA-256 of the uploaded file; null after the file was deleted")
    summary: dict[str, Any] | None = Field(
        description="number of images in each part, image shape, class names and group columns; null until the check"
    )
    error: ErrorBody | None = Field(description="the reason why the data set was rejected")
    created_at: datetime

    @classmethod
    def from_row(cls, dataset: Dataset) -> Self:
        """Return the data set of a row."""
        return cls(
            id=dataset.id,
            name=dataset.name,
            status=dataset.state,
            sha256=dataset.sha256,
            summary=dataset.summary,
            error=ErrorBody.from_stored(dataset.error),
            created_at=dataset.created_at,
        )


class EventResource(Resource):
    """An event of a job."""

    seq: int = Field(
        description="number of the event, which increases within a job; use it in `after` and `Last-Event-ID`"
    )
    time: datetime = Field(alias="at", description="time of the event")
    kind: str = Field(examples=["epoch"])
    body: dict[str, Any]

    @classmethod
    def from_row(cls, event: JobEvent) -> Self:
        """Return the event of a row."""
        return cls(seq=event.seq, at=event.created_at, kind=event.kind, body=event.body)


Item = TypeVar("Item", bound=Resource)
Row = TypeVar("Row")


class Page(Resource, Generic[Item]):
    """A page of a list. Request the next page with `after=<last_id>`. A page of large items has fewer than `limit`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    last_id: str | None

    @classmethod
    def from_page(cls, page: paging.Page[Row], item: Callable[[Row], Item]) -> Self:
        """Return the page with an item for each row."""
        return cls(data=[item(row) for row in page.data], has_more=page.has_more, last_id=page.last_id)


class EventPage(Resource):
    """A page of a job's events. Request the next page with `after=<last_seq>`. A page of large events has fewer than `limit`."""

    object: Literal["list"] = "list"
    data: list[EventResource]
    has_more: bool
    last_seq: int


class Pending(Resource):
    """The progress of a job that has no report yet. Repeat the request after `Retry-After` seconds."""

    object: Literal["pending-report"] = "pending-report"
    job: str = Field(description="id of the job")
    status: JobState
    stage: str | None
    progress: Amount | None


class EstimateResource(Resource):
    """The estimated cost of a job."""

    object: Literal["estimate"] = "estimate"
    passes: int = Field(
        description="largest possible number of passes of one image through the network, forward and backward"
    )
    minutes: float | None = Field(
        description="expected duration in minutes; null if the service has no report about this architecture"
    )
    minutes_at_most: float | None = Field(
        description="duration in minutes if no attack breaks an image, without weight perturbation and without the passes "
        "that some methods make before an epoch"
    )
    measured_by: str | None = Field(description="id of the job whose report gives the duration of a pass")


class Health(BaseModel):
    """The answer of a process that runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The answer of a service that can serve requests."""

    status: Literal["ready"] = "ready"
    lost_files: int | None = Field(
        None,
        description="number of stored files that were missing or damaged at the last read; `faal-service check` lists them",
    )
