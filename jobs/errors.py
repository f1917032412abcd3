"""The errors around jobs, each with a stable code and a message that says what happened and what to do.

JobsError
├── NotFound
│   ├── JobNotFound          job-not-found          no job has that id
│   ├── CandidateNotFound    candidate-not-found    the job's report has no candidate of that number
│   ├── LinkNotFound         link-not-found         no link has that id or token
│   ├── OutcomesNotFound     outcomes-not-found     no outcomes of images are stored with the job's report
│   ├── ModelNotFound        model-not-found        no model has that id
│   ├── DatasetNotFound      dataset-not-found      no data set has that id
│   ├── UploadNotFound       upload-not-found       no upload in parts has that id
│   ├── WebhookNotFound      webhook-not-found      no webhook has that id
│   ├── PlanNotFound         plan-not-found         no plan has that id
│   ├── StudyNotFound        study-not-found        no study has that id
│   └── KeyNotFound          key-not-found          no API key has that id
├── KeyRefused               key-refused            the API key is unknown, revoked or expired
├── NotReady
│   ├── ModelNotReady        model-not-ready        the model is still being checked, or was rejected
│   └── DatasetNotReady      dataset-not-ready      the data set is still being checked, or was rejected
├── UploadIncomplete         upload-incomplete      parts of the upload are missing
├── UploadComplete           upload-complete        the parts of the upload were joined already
├── JobStateConflict         job-state-conflict     the job's state does not allow that
├── JobFailed                job-failed             the job has no report because it failed
├── JobCancelled             job-cancelled          the job has no report because it was cancelled
├── InUse                    in-use                 a job or plan needs the model, data set or job
├── FileVanished             file-vanished          the same content was removed while it was registered
├── UploadTooLarge           upload-too-large       a file exceeds the limit
├── FileLost                 file-lost              a stored file is missing or damaged
├── StorageFull              storage-full           the disk is full
├── StoreUnavailable         store-unavailable      the object store does not answer, or refuses the service
├── QuotaExceeded            quota-exceeded         the owner has reached a limit on jobs, bytes, webhooks or plans
├── IdempotencyConflict      idempotency-conflict   the key was used for another request
└── LeaseLost                lease-lost             the worker no longer holds the job (stays inside the worker)

`Job.error` holds a code of this tree, of `faal_core.errors`, or one of `JOB_ONLY_CODES`.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

JOB_ONLY_CODES = ("worker-lost", "out-of-memory", "database-unavailable", "internal-error")
"""Codes in `Job.error` without a class: workers died, memory ran out, the database was unavailable, or a defect of FAAL."""


class JobsError(Exception):
    """An error a user can act on; `code` is stable, the message says what happened and what to do."""

    code: ClassVar[str]

    @property
    def message(self) -> str:
        """Return the sentence for a person."""
        return str(self.args[0]) if self.args else self.code


class NotFound(JobsError):
    """No row of that kind has that id."""

    code = "not-found"


class JobNotFound(NotFound):
    """No job has that id."""

    code = "job-not-found"


class CandidateNotFound(NotFound):
    """The job's report has no candidate of that number."""

    code = "candidate-not-found"


class LinkNotFound(NotFound):
    """No link of that id, or no valid link of that token, leads to a report."""

    code = "link-not-found"


class OutcomesNotFound(NotFound):
    """No outcomes of images are stored with the job's report."""

    code = "outcomes-not-found"


class ModelNotFound(NotFound):
    """No model has that id."""

    code = "model-not-found"


class DatasetNotFound(NotFound):
    """No data set has that id."""

    code = "dataset-not-found"


class UploadNotFound(NotFound):
    """No upload in parts has that id."""

    code = "upload-not-found"


class WebhookNotFound(NotFound):
    """No webhook has that id."""

    code = "webhook-not-found"


class PlanNotFound(NotFound):
    """No plan has that id."""

    code = "plan-not-found"


class StudyNotFound(NotFound):
    """No study has that id."""

    code = "study-not-found"


class UploadIncomplete(JobsError):
    """Parts of the upload are missing."""

    code = "upload-incomplete"


class UploadComplete(JobsError):
    """The parts of the upload were joined already."""

    code = "upload-complete"


class KeyNotFound(NotFound):
    """No API key has that id."""

    code = "key-not-found"


class KeyRefused(JobsError):
    """The API key is unknown, revoked or expired."""

    code = "key-refused"


class NotReady(JobsError):
    """An upload cannot be used, yet or at all."""

    code = "not-ready"


class ModelNotReady(NotReady):
    """The model is still being checked, or was rejected."""

    code = "model-not-ready"


class DatasetNotReady(NotReady):
    """The data set is still being checked, or was rejected."""

    code = "dataset-not-ready"


class JobStateConflict(JobsError):
    """The job's state does not allow that."""

    code = "job-state-conflict"


class InUse(JobsError):
    """A job that has not ended, or a plan, needs the object that a request deletes."""

    code = "in-use"


class FileVanished(JobsError):
    """The same content was removed while it was registered; nothing was registered."""

    code = "file-vanished"


class JobFailed(JobsError):
    """The job has no report because it failed; `problem` is the job's own error."""

    code = "job-failed"

    def __init__(self, message: str, problem: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class JobCancelled(JobsError):
    """The job has no report because it was cancelled."""

    code = "job-cancelled"


class UploadTooLarge(JobsError):
    """A file exceeds the limit; nothing of it was stored."""

    code = "upload-too-large"


class FileLost(JobsError):
    """A stored file is missing or damaged.

    Args:
        damaged: whether it is in storage with another content.
    """

    code = "file-lost"

    def __init__(self, sha256: str, *, damaged: bool) -> None:
        self.sha256, self.damaged = sha256, damaged
        state = "damaged" if damaged else "missing"
        super().__init__(
            f"The stored file {sha256} is {state}. Upload it, or the file it was made from, again, and tell the administrator "
            "of the service."
        )


class StorageFull(JobsError):
    """The disk is full; nothing of the file was stored."""

    code = "storage-full"


class StoreUnavailable(JobsError):
    """The object store does not answer, refuses the service, or lacks the bucket."""

    code = "store-unavailable"


class QuotaExceeded(JobsError):
    """The owner has reached a limit, or would exceed it."""

    code = "quota-exceeded"

    def __init__(
        self,
        resource: Literal["jobs", "bytes", "webhooks", "links", "plans", "studies"],
        most: int,
        used: int,
        wanted: int = 1,
    ) -> None:
        names = {"jobs": "jobs that have not ended", "bytes": "bytes in storage", "links": "links to this report"}
        things = names.get(resource, resource)
        remedies = {"links": "Revoke one", "webhooks": "Delete one", "plans": "Delete one", "studies": "Delete one"}
        remedy = remedies.get(resource, "Ask the administrator of the service for more")
        more = f" and request {wanted:,} more" if wanted > 1 else ""
        super().__init__(f"You have {used:,} {things}{more}; the limit is {most:,}. {remedy}.")
        self.resource, self.most, self.used = resource, most, used


class IdempotencyConflict(JobsError):
    """The idempotency key was used before, for another request."""

    code = "idempotency-conflict"


class LeaseLost(JobsError):
    """The worker no longer holds the job: another claimed it, or it was cancelled or ended. The call changed no data."""

    code = "lease-lost"


class CannotStart(Exception):
    """The installation is at fault, so the process cannot start.

    This is no JobsError: no request and no job ends with it.
    """
