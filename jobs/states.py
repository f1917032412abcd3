"""The states of jobs and uploads, and the moves between them: `jobs.moves` derives its guards from this table."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple


class JobState(StrEnum):
    """The state of a job. A request to cancel or pause a running job is a flag beside the state, not a state."""

    QUEUED = "queued"  # submitted, or released by a worker that stopped or died
    RUNNING = "running"  # claimed: one worker holds the lease of this attempt
    PAUSED = "paused"  # a client paused it; no worker claims it until it is resumed, and its checkpoint stays
    SUCCEEDED = "succeeded"  # the result was stored in the same transaction
    FAILED = "failed"  # an error was stored
    CANCELLED = "cancelled"  # a client cancelled it: while it waited, or while it ran


class Move(NamedTuple):
    """A change of a job's state: allowed from `sources`, ends in `target`."""

    sources: frozenset[JobState]
    target: JobState


_QUEUED, _RUNNING, _PAUSED = (frozenset({state}) for state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED))

MOVES: Mapping[str, Move] = MappingProxyType(
    {
        "claim": Move(_QUEUED, JobState.RUNNING),
        "cancel-waiting": Move(_QUEUED | _PAUSED, JobState.CANCELLED),
        "expire": Move(_QUEUED, JobState.FAILED),
        "pause-waiting": Move(_QUEUED, JobState.PAUSED),
        "resume": Move(_PAUSED, JobState.QUEUED),
        "succeed": Move(_RUNNING, JobState.SUCCEEDED),
        "fail": Move(_RUNNING, JobState.FAILED),
        "cancel-running": Move(_RUNNING, JobState.CANCELLED),
        "release": Move(_RUNNING, JobState.QUEUED),
        "pause-running": Move(_RUNNING, JobState.PAUSED),
    }
)

FINAL = frozenset(JobState) - frozenset().union(*(move.sources for move in MOVES.values()))
"""The states that no move leaves."""

Crash = Literal["worker-lost", "out-of-memory"]
"""The job's own process died, or its worker fell silent. Such attempts are counted."""

Outage = Literal["database-unavailable", "store-unavailable", "storage-full"]
"""A service that the worker needs failed. Such an attempt is no crash; the job is tried again after a delay."""

ReleaseReason = Literal["worker-stopped", Crash, Outage]
"""Why a worker released a job. The first is a graceful stop."""


class JobKind(StrEnum):
    """The kind of work that a job does."""

    FINETUNE = "finetune"  # audit, train, audit again: a report and a new model
    AUDIT = "audit"  # a report
    CHECK_MODEL = "check-model"  # an uploaded model becomes ready or rejected
    MAKE_CANDIDATE = "make-candidate"  # a candidate of a fine-tuning's report becomes a model that is ready
    CHECK_DATASET = "check-dataset"  # an uploaded data set becomes ready or rejected


CHECKS = frozenset({JobKind.CHECK_MODEL, JobKind.CHECK_DATASET})
"""The jobs that check uploads: short ones, which their owners wait for."""


class UploadState(StrEnum):
    """The state of an uploaded model or data set."""

    VALIDATING = "validating"  # its check job has not ended
    READY = "ready"  # can be used in jobs
    REJECTED = "rejected"  # its error says why
    DELETED = "deleted"  # its file was removed; jobs and fine-tuned models still name it
