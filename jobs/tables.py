"""The tables: models, data sets, jobs with their events, reports and links, files, uploads in parts, API keys and webhooks.

Strings have no length here: SQLite would not enforce one, and the web service limits them when they come in.
"""

import secrets
import time
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.clock import UtcDateTime, now
from jobs.states import JobKind, JobState, UploadState


def new_id(prefix: str) -> str:
    """Return `prefix`, an underscore and a UUIDv7 in hexadecimal: ids made later sort later.

    Source: RFC 9562, section 5.7 with method 3 (the 12 bits after the version hold the fraction of the millisecond).
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    bits = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return f"{prefix}_{bits:032x}"


class Problem(TypedDict):
    """Why a job failed or an upload was rejected: a stable code and a sentence for a person."""

    code: str
    message: str


def _values(kind: type[StrEnum]) -> list[str]:
    return [member.value for member in kind]


def _enum(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=20, values_callable=_values)


class Table(DeclarativeBase):
    """A row of a table."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


class Artifact(Table):
    """A file in storage, named by its content."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    # When it was found missing or damaged; null while it is intact.
    lost_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Model(Table):
    """A stored classifier: uploaded, or the result of a job (then it has parents)."""

    __tablename__ = "models"
    __table_args__ = (Index(None, "owner", "id"), Index(None, "owner", "name", "id"))

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("model"))
    name: Mapped[str]
    owner: Mapped[str]
    state: Mapped[UploadState] = mapped_column(_enum(UploadState))
    error: Mapped[Problem | None] = mapped_column(JSON(none_as_null=True))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    upload_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)  # of the file
    # Of the weights in it, as in reports; null for models that were checked before FAAL stored it.
    weights_sha256: Mapped[str | None]
    parent_model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"), index=True)
    parent_job_id: Mapped[str | None] = mapped_column(index=True)  # no foreign key: jobs already refer to models
    candidate: Mapped[int | None]  # its index in the report of that job, unless it is the selected one
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class Dataset(Table):
    """An uploaded data set."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("dataset"))
    name: Mapped[str]
    owner: Mapped[str]
    state: Mapped[UploadState] = mapped_column(_enum(UploadState))
    error: Mapped[Problem | None] = mapped_column(JSON(none_as_null=True))
    sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class Job(Table):
    """A job: what to do, its state, and the worker that holds it.

    State changes go through `jobs.moves`; `jobs.results` adds results, and `jobs.removal` deletes rows.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index(None, "state", "lease_expires_at"),
        Index(None, "state", "priority", "id"),
        Index(None, "owner", "id"),
        Index(None, "owner", "started_at"),
        *(Index(None, "owner", column, "id") for column in ("kind", "state", "epsilon", "robust_mean", "robust_worst")),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("job"))
    kind: Mapped[JobKind] = mapped_column(_enum(JobKind))
    owner: Mapped[str]
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"), index=True)
    dataset: Mapped[str | None]  # a catalog name or a data set's id
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    epsilon: Mapped[float | None]  # the radius in the spec, to sort by
    priority: Mapped[int] = mapped_column(default=0)  # of the waiting jobs the one with the greatest is claimed first
    pool: Mapped[str | None]  # of workers that may claim it; null: any worker
    retry_of: Mapped[str | None]  # the job that this one repeats
    submitted_by: Mapped[str | None]  # the name of the API key; null where none was needed
    budget_minutes: Mapped[float | None]  # of running, in all attempts; then it ends with the results so far
    deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)  # then it ends with the results so far
    seconds_run: Mapped[float] = mapped_column(default=0.0)  # in all attempts, as last recorded
    gpu_bytes: Mapped[int | None] = mapped_column(BigInteger)  # the most its last attempt has held of a GPU's memory
    state: Mapped[JobState] = mapped_column(_enum(JobState), default=JobState.QUEUED)
    version: Mapped[int] = mapped_column(default=1)  # grows with every change a client can see
    attempt: Mapped[int] = mapped_column(default=0)  # the fencing token: grows with every claim
    crashes: Mapped[int] = mapped_column(default=0)  # attempts whose process died
    outages: Mapped[int] = mapped_column(default=0)  # attempts that the database, storage or disk ended
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)  # after an outage: until then no worker claims it
    leases_lost: Mapped[int] = mapped_column(default=0)  # attempts whose lease expired
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    stage: Mapped[str | None]
    done: Mapped[int | None] = mapped_column(BigInteger)
    total: Mapped[int | None] = mapped_column(BigInteger)
    helpers: Mapped[int] = mapped_column(default=0)  # other workers that compute batches of its audits
    seconds_left: Mapped[float | None]  # of the whole job, of an audit at most; null where it is unknown
    error: Mapped[Problem | None] = mapped_column(JSON(none_as_null=True))
    result_model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"))
    finding: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # a fine-tuning's outcome and falls
    # From its report, for lists: robust accuracies of the audit, or of the audit after a fine-tuning.
    robust_mean: Mapped[float | None]
    robust_worst: Mapped[float | None]
    worst_class: Mapped[str | None]
    # The weights of a fine-tuning's best epoch.
    trained_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    checkpoint: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))  # file → digest in its storage
    idempotency_key: Mapped[str | None]
    payload_sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class JobEvent(Table):
    """An event of a job; rows are only added. `seq` is the job's version that the event made."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = mapped_column("at", UtcDateTime, default=now())
    kind: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class Report(Table):
    """The report of a job, as JSON text."""

    __tablename__ = "reports"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    document: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class ReportOutcomes(Table):
    """The outcomes of the images of one audit in a job's report: a file in storage."""

    __tablename__ = "report_outcomes"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(
        primary_key=True
    )  # of the file, as `faal_core.results.reading.list_audits` has it
    owner: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)


class ReportLink(Table):
    """A link by which anybody reads the report of a job without a key, until it expires. It belongs to the owner of the job."""

    __tablename__ = "report_links"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("link"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)  # HMAC-SHA-256 of the link's token under the site's secret
    created_by: Mapped[str | None]  # as `Job.submitted_by`
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApiKey(Table):
    """An API key. Rows of revoked and expired keys stay, so that a service with keys never becomes open again."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("key"))
    owner: Mapped[str]
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(unique=True)  # HMAC-SHA-256 of the key under the site's secret
    max_priority: Mapped[int] = mapped_column(default=0)  # of jobs that are submitted with it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PartialUpload(Table):
    """A file that arrives in parts; once these were joined it has a digest."""

    __tablename__ = "partial_uploads"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("upload"))
    owner: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int]
    sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now(), index=True)


class UploadPart(Table):
    """A part that has arrived."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("partial_uploads.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    size: Mapped[int]


class Webhook(Table):
    """An address at which the ends of an owner's jobs are announced."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("webhook"))
    owner: Mapped[str]
    url: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when its receiver answered 410 Gone


class WebhookMessage(Table):
    """A message to a webhook, and the state of its delivery."""

    __tablename__ = "webhook_messages"
    __table_args__ = (Index(None, "webhook_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("message"))
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    owner: Mapped[str]
    kind: Mapped[str]
    body: Mapped[str]  # as sent with every try
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=now(), index=True)  # null: no further try
    status: Mapped[int | None]  # HTTP status of the last try; null where there was no answer
    error: Mapped[str | None]  # why there was no answer
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
