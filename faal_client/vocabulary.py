"""The words that the service and its clients share: kinds, states and scopes. The service's packages import them from here."""

from enum import StrEnum


class JobKind(StrEnum):
    """The kind of work that a job does."""

    FINETUNE = "finetune"  # audit, train, audit again: a report and a new model
    AUDIT = "audit"  # a report
    COMPARE = "compare"  # a report that compares the audits in other jobs' reports; runs no model
    CHECK_MODEL = "check-model"  # an uploaded model becomes ready or rejected
    MAKE_CANDIDATE = "make-candidate"  # a candidate of a fine-tuning's report becomes a model that is ready
    CHECK_DATASET = "check-dataset"  # an uploaded data set becomes ready or rejected


class JobState(StrEnum):
    """The state of a job. A request to cancel or pause a running job is a flag beside the state, not a state."""

    QUEUED = "queued"  # submitted, or released by a worker that stopped or died
    RUNNING = "running"  # claimed: one worker holds the lease of this attempt
    PAUSED = "paused"  # a client paused it; no worker claims it until it is resumed, and its checkpoint stays
    SUCCEEDED = "succeeded"  # the result was stored in the same transaction
    FAILED = "failed"  # an error was stored
    CANCELLED = "cancelled"  # a client cancelled it: while it waited, or while it ran


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""The states of a job that has ended. A test compares them with the moves in `jobs.states`."""


class UploadState(StrEnum):
    """The state of an uploaded model or data set."""

    VALIDATING = "validating"  # its check job has not ended
    READY = "ready"  # can be used in jobs
    REJECTED = "rejected"  # its error says why
    DELETED = "deleted"  # its file was removed; jobs and fine-tuned models still name it


class MessageState(StrEnum):
    """The state of a message to a webhook."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given-up"


class RunTrigger(StrEnum):
    """The reason why a run of a plan was started."""

    VERSION = "version"  # a new version of the model became ready, or the plan was created
    SCHEDULE = "schedule"  # a scheduled run was due
    REQUEST = "request"  # a client asked for it


class Scope(StrEnum):
    """A permission of an API key."""

    READ = "read"  # see its owner's jobs, models, data sets and reports
    SUBMIT = "submit"  # upload, and submit, cancel, pause, resume and retry jobs, in its owner's name
    METRICS = "metrics"  # read the metrics, which cover all owners
    ADMIN = "admin"  # make, list and revoke keys, of every owner
