"""The bodies of responses about jobs, models, data sets and the service, and pages of them."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from faal_client.vocabulary import JobKind, JobState, UploadState
from faal_core.results.finetune_documents import Outcome


class Resource(BaseModel):
    """An object of the service, in its state at the time of the answer."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)


class ErrorBody(Resource):
    """The reason why a job failed or an upload was rejected: a stable code and a message for people."""

    code: str = Field(description="stable code, explained at `/problems/{code}`", examples=["training-diverged"])
    message: str = Field(description="the cause and the remedy, for people")


class Amount(Resource):
    """The progress of the present stage in images, and the time that the audit still takes."""

    done: int = Field(description="images done in the present stage")
    total: int | None = Field(description="images of the present stage; null if unknown")
    seconds_left: float | None = Field(
        description="estimated seconds that the whole job still takes, for an audit at most; null if unknown"
    )


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
    helpers: int = Field(
        0, description="number of other workers that compute batches of the job's audit now; 0 unless the job runs"
    )
    attempt: int = Field(description="number of times a worker has started the job")
    cancel_requested: bool
    pause_requested: bool
    retry_of: str | None = Field(description="id of the job that this job retries")
    submitted_by: str | None = Field(
        None,
        description="name of the API key that submitted the job; null if the request needed no key, or if the service "
        "started the job for a plan",
    )
    result_model: str | None = Field(
        description="id of the new model of a fine-tuning that succeeded; null if it kept the original weights"
    )
    outcome: Outcome | None = Field(
        description="outcome of a fine-tuning, as in its report; null until there is a report"
    )
    falls: int | None = Field(
        description="number of clean and robust accuracies, of means and classes, that a fine-tuning made significantly worse"
    )
    robust_mean: float | None = Field(
        None,
        description="mean robust accuracy in the report, after a fine-tuning that of the kept weights; null until there is a "
        "report",
    )
    robust_worst: float | None = Field(
        None, description="robust accuracy of the worst class in the same audit; null until there is a report"
    )
    worst_class: str | None = Field(
        None, description="name of the class with the lowest robust accuracy in the same audit"
    )
    error: ErrorBody | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


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
        description="SHA-256 of the safetensors or ONNX file that `GET /models/{id}/weights` returns, "
        "once the upload was checked. A "
        "safetensors file also holds the spec, so this differs from `sha256`."
    )
    parent_model: str | None = Field(description="id of the model it was fine-tuned from")
    parent_job: str | None = Field(description="id of the job that fine-tuned it")
    candidate: int | None = Field(
        description="index in the `candidates` of the report of `parent_job`, if the model was made from a candidate"
    )
    error: ErrorBody | None = Field(description="the reason why the model was rejected")
    created_at: datetime


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


class EventResource(Resource):
    """An event of a job."""

    seq: int = Field(
        description="number of the event, which increases within a job; use it in `after` and `Last-Event-ID`"
    )
    time: datetime = Field(alias="at", description="time of the event")
    kind: str = Field(examples=["epoch"])
    body: dict[str, Any]


Item = TypeVar("Item", bound=Resource)


class Page(Resource, Generic[Item]):
    """A page of a list. Request the next page with `after=<last_id>`. A page of large items has fewer than `limit`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    last_id: str | None


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
