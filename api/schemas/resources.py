"""What goes out as JSON: resources and pages of them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from faal_core.results.finetune_documents import Outcome
from faal_core.specs import METHODS
from jobs import paging
from jobs.states import JobKind, JobState, UploadState
from jobs.tables import Dataset, Job, JobEvent, Model

# PostgreSQL's text has no room for NUL; control characters in names help nobody.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[Line, Field(min_length=1, max_length=200, description="for people", examples=["street signs, March"])]


class Resource(BaseModel):
    """Something with an id, as it is at this moment."""

    model_config = ConfigDict(frozen=True)


class ErrorBody(Resource):
    """Why a job failed or an upload was rejected: a stable code and a sentence for a person."""

    code: str = Field(examples=["training-diverged"])
    message: str

    @classmethod
    def of(cls, stored: Mapping[str, object] | None) -> Self | None:
        """The error a row holds, if any."""
        return None if stored is None else cls.model_validate(stored)


class Amount(Resource):
    """How much of the present stage is done, in images, and how long the audit takes from here."""

    done: int
    total: int | None
    seconds_left: float | None = Field(description="of the whole audit, at most: an estimate; null where none is known")

    @classmethod
    def of(cls, job: Job) -> Self | None:
        """What is done of a running job's stage."""
        running = job.state is JobState.RUNNING and job.done is not None
        return cls(done=job.done, total=job.total, seconds_left=job.seconds_left) if running else None


class JobResource(Resource):
    """A job: what was asked for and where it stands."""

    id: str = Field(examples=["job_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["job"] = "job"
    kind: JobKind
    status: JobState
    model: str | None
    dataset: str | None
    spec: dict[str, Any] = Field(description="every number the result depends on, defaults included")
    metadata: dict[str, str]
    priority: int
    pool: str | None = Field(description="of the workers that may take it; any where it is null")
    budget_minutes: float | None
    deadline: datetime | None
    seconds_run: float = Field(description="in all attempts, as last told")
    gpu_bytes: int | None = Field(
        description="the most its last attempt has held of a GPU's memory; null where it used none"
    )
    stage: str | None = Field(description="what is being done, while running")
    progress: Amount | None
    attempt: int = Field(description="how often a worker has taken the job up")
    cancel_requested: bool
    pause_requested: bool
    retry_of: str | None = Field(description="the job that this one tries again")
    result_model: str | None = Field(
        description="the new model of a fine-tuning that succeeded; null where it kept the original weights"
    )
    outcome: Outcome | None = Field(description="what a fine-tuning came to, as its report says; null until then")
    falls: int | None = Field(
        description="how many clean and robust accuracies, means and classes, a fine-tuning made significantly worse"
    )
    error: ErrorBody | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The job of that row."""
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
            progress=Amount.of(job),
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            pause_requested=job.pause_requested,
            retry_of=job.retry_of,
            result_model=job.result_model_id,
            outcome=(job.finding or {}).get("outcome"),
            falls=(job.finding or {}).get("falls"),
            error=ErrorBody.of(job.error),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ClassifierBody(Resource):
    """What a stored classifier is: the fields of ClassifierSpec, whether its architecture is still offered or not."""

    architecture: str = Field(examples=["preact_resnet18"])
    num_classes: int
    mean: tuple[float, ...] = Field(description="per channel, pixels in [0, 1]")
    std: tuple[float, ...]
    arguments: dict[str, int] = Field(description="the architecture's own")
    class_names: tuple[str, ...] | None


class ModelResource(Resource):
    """A stored classifier: uploaded, or fine-tuned by a job (then it has parents)."""

    id: str = Field(examples=["model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["model"] = "model"
    name: str
    status: UploadState
    spec: ClassifierBody
    sha256: str | None = Field(
        description="SHA-256 of the weights' names, types, shapes and values: the `classifier.sha256` of every report on this "
        "model, whatever file it came from. Null until the file was checked, and for models checked by a version that did not "
        "store it."
    )
    file_sha256: str | None = Field(
        description="SHA-256 of the safetensors file that `GET /models/{id}/weights` returns, once the upload was checked. The "
        "file also holds the spec, so this differs from `sha256`."
    )
    parent_model: str | None = Field(description="the model it was fine-tuned from")
    parent_job: str | None = Field(description="the job that fine-tuned it")
    candidate: int | None = Field(
        description="its place in the `candidates` of that job's report, where it was made of one"
    )
    error: ErrorBody | None = Field(description="why it was rejected")
    created_at: datetime

    @classmethod
    def of(cls, model: Model) -> Self:
        """The model of that row."""
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
            error=ErrorBody.of(model.error),
            created_at=model.created_at,
        )


class DatasetResource(Resource):
    """An uploaded data set."""

    id: str = Field(examples=["dataset_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["dataset"] = "dataset"
    name: str
    status: UploadState
    sha256: str | None = Field(description="of the uploaded file, while it is kept")
    summary: dict[str, Any] | None = Field(
        description="images of each part, shape, class names and columns of groups, once it was checked"
    )
    error: ErrorBody | None = Field(description="why it was rejected")
    created_at: datetime

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The data set of that row."""
        return cls(
            id=dataset.id,
            name=dataset.name,
            status=dataset.state,
            sha256=dataset.sha256,
            summary=dataset.summary,
            error=ErrorBody.of(dataset.error),
            created_at=dataset.created_at,
        )


class EventResource(Resource):
    """Something that happened to a job."""

    seq: int = Field(description="grows within a job; `after` and `Last-Event-ID` take it")
    at: datetime
    kind: str = Field(examples=["epoch"])
    body: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """The event of that row."""
        return cls(seq=event.seq, at=event.at, kind=event.kind, body=event.body)


Item = TypeVar("Item", bound=Resource)
Row = TypeVar("Row")


class Page(Resource, Generic[Item]):
    """Part of a list; the next part is asked for with `after=<last_id>`. Large items make a page end before `limit`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    last_id: str | None

    @classmethod
    def of(cls, page: paging.Page[Row], item: Callable[[Row], Item]) -> Self:
        """The page, with the item of each row."""
        return cls(data=[item(row) for row in page.data], has_more=page.has_more, last_id=page.last_id)


class EventPage(Resource):
    """Part of a job's events; the next part is asked for with `after=<last_seq>`. Large events make it end before `limit`."""

    object: Literal["list"] = "list"
    data: list[EventResource]
    has_more: bool
    last_seq: int


class Pending(Resource):
    """A report that is not there yet: how far its job is. Ask again after `Retry-After` seconds."""

    object: Literal["pending-report"] = "pending-report"
    job: str
    status: JobState
    stage: str | None
    progress: Amount | None


class Method(BaseModel):
    """A method to fine-tune a model by."""

    type: str
    title: str
    defaults: dict[str, Any]


def methods() -> list[Method]:
    """All of them, the default first."""
    defaults = [method() for method in METHODS]
    return [
        Method(
            type=default.type,
            title=(default.__doc__ or "").splitlines()[0].rstrip("."),
            defaults=default.model_dump(mode="json"),
        )
        for default in defaults
    ]
