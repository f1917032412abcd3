"""What can go wrong around jobs, each with a stable code and a message that says what to do.

JobsError
├── NotFound
│   ├── JobNotFound          job-not-found          no job has that id
│   ├── CandidateNotFound    candidate-not-found    the job's report has no candidate of that number
│   ├── ModelNotFound        model-not-found        no model has that id
│   ├── DatasetNotFound      dataset-not-found      no data set has that id
│   ├── UploadNotFound       upload-not-found       no upload in parts has that id
│   ├── WebhookNotFound      webhook-not-found      no webhook has that id
│   └── KeyNotFound          key-not-found          no API key has that id
├── KeyRefused               key-refused            the API key is not known, was revoked or has run out
├── NotReady
│   ├── ModelNotReady        model-not-ready        the model is still being checked, or was rejected
│   └── DatasetNotReady      dataset-not-ready      likewise for a data set
├── UploadIncomplete         upload-incomplete      parts of the upload are missing
├── UploadComplete           upload-complete        its parts were put together already
├── JobStateConflict         job-state-conflict     the job's state does not allow that
├── JobFailed                job-failed             the job has no report because it failed
├── JobCancelled             job-cancelled          the job has no report because it was cancelled
├── InUse                    in-use                 a job that has not ended needs what shall be deleted
├── FileVanished             file-vanished          the same content was removed while it was registered
├── UploadTooLarge           upload-too-large       a file exceeds the limit
├── FileLost                 file-lost              a stored file is missing or damaged
├── StorageFull              storage-full           the disk has no room for a file
├── StoreUnavailable         store-unavailable      the object store does not answer, or refuses the service
├── QuotaExceeded            quota-exceeded         the owner has as many jobs, or bytes in storage, as they may
├── IdempotencyConflict      idempotency-conflict   the key was used for another request
└── LeaseLost                lease-lost             the job is no longer this worker's (never leaves the worker)

`Job.error` holds a code of this tree, of `faal_core.errors`, or one of `JOB_ONLY_CODES`.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

JOB_ONLY_CODES = ("worker-lost", "out-of-memory", "database-unavailable", "internal-error")
"""Codes in `Job.error` without a class: its workers died, memory ran out, the database stayed away, or it met a defect."""


class JobsError(Exception):
    """An error a user can act on; `code` is stable, the message says what was wrong and what to do."""

    code: ClassVar[str]

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self.args[0]) if self.args else self.code


class NotFound(JobsError):
    """Nothing of that kind has that id."""

    code = "not-found"


class JobNotFound(NotFound):
    """No job has that id."""

    code = "job-not-found"


class CandidateNotFound(NotFound):
    """The job's report has no candidate of that number."""

    code = "candidate-not-found"


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


class UploadIncomplete(JobsError):
    """Parts of the upload are missing."""

    code = "upload-incomplete"


class UploadComplete(JobsError):
    """The parts of the upload were put together already."""

    code = "upload-complete"


class KeyNotFound(NotFound):
    """No API key has that id."""

    code = "key-not-found"


class KeyRefused(JobsError):
    """The API key is not known, was revoked or has run out."""

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
    """A job that has not ended needs what shall be deleted."""

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
    """A file exceeds the limit; nothing of it was kept."""

    code = "upload-too-large"


class FileLost(JobsError):
    """A stored file is missing, or not what its name says.

    Args:
        damaged: whether it is there, with another content.
    """

    code = "file-lost"

    def __init__(self, sha256: str, *, damaged: bool) -> None:
        self.sha256, self.damaged = sha256, damaged
        state = "damaged" if damaged else "missing"
        super().__init__(
            f"The stored file {sha256} is {state}; upload it, or whatever it was made from, again, and tell whoever runs the "
            "service."
        )


class StorageFull(JobsError):
    """The disk has no room for a file; nothing of it was kept."""

    code = "storage-full"


class StoreUnavailable(JobsError):
    """The object store does not answer, refuses the service, or lacks the bucket."""

    code = "store-unavailable"


class QuotaExceeded(JobsError):
    """The owner has as much of something as they may at a time."""

    code = "quota-exceeded"

    def __init__(self, of: Literal["jobs", "bytes", "webhooks"], most: int, used: int) -> None:
        things = {"jobs": "jobs that have not ended", "bytes": "bytes in storage", "webhooks": "webhooks"}[of]
        super().__init__(f"You have {used:,} {things} and may have {most:,}; whoever runs the service can allow more.")
        self.of, self.most, self.used = of, most, used


class IdempotencyConflict(JobsError):
    """The idempotency key was used before, for another request."""

    code = "idempotency-conflict"


class LeaseLost(JobsError):
    """The job is no longer this worker's: it was given to another, cancelled or ended. Nothing was changed."""

    code = "lease-lost"


class CannotStart(Exception):
    """The installation is at fault, so the process cannot start. No JobsError: no request and no job ends with it."""
