"""Which states jobs and uploads have, and the moves between them: the guards of `jobs.moves` come from here."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple


class JobState(StrEnum):
    """Where a job stands. That it shall be cancelled or paused is a flag beside the state, not a state."""

    QUEUED = "queued"  # submitted, or released by a worker that stopped or died
    RUNNING = "running"  # claimed: one worker holds the lease of this attempt
    PAUSED = "paused"  # asked for; no worker takes it, and what it has stored is kept, until it is resumed
    SUCCEEDED = "succeeded"  # the result was stored in the same transaction
    FAILED = "failed"  # an error was stored
    CANCELLED = "cancelled"  # asked for while queued, or noticed by the worker


class Move(NamedTuple):
    """A step of a job: allowed from `sources`, ends in `target`."""

    sources: frozenset[JobState]
    target: JobState


_QUEUED, _RUNNING, _PAUSED = (frozenset({state}) for state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED))

MOVES: Mapping[str, Move] = MappingProxyType(
    {
        "claim": Move(_QUEUED, JobState.RUNNING),
        "withdraw": Move(_QUEUED | _PAUSED, JobState.CANCELLED),
        "expire": Move(_QUEUED, JobState.FAILED),
        "pause": Move(_QUEUED, JobState.PAUSED),
        "resume": Move(_PAUSED, JobState.QUEUED),
        "succeed": Move(_RUNNING, JobState.SUCCEEDED),
        "fail": Move(_RUNNING, JobState.FAILED),
        "cancel": Move(_RUNNING, JobState.CANCELLED),
        "release": Move(_RUNNING, JobState.QUEUED),
        "set-aside": Move(_RUNNING, JobState.PAUSED),
    }
)

FINAL = frozenset(JobState) - frozenset().union(*(move.sources for move in MOVES.values()))
"""The states that no move leaves."""

Crash = Literal["worker-lost", "out-of-memory"]
"""The job's own process died, or its worker fell silent. Such attempts are counted."""

Outage = Literal["database-unavailable", "store-unavailable", "storage-full"]
"""What the service depends on failed. No such attempt counts as a crash; the job is tried again after a pause."""

ReleaseReason = Literal["worker-stopped", Crash, Outage]
"""Why a worker gave a job back. The first is a graceful stop."""


class JobKind(StrEnum):
    """What a job does."""

    FINETUNE = "finetune"  # audit, train, audit again: a report and a new model
    AUDIT = "audit"  # a report
    CHECK_MODEL = "check-model"  # an uploaded model becomes ready or rejected
    MAKE_CANDIDATE = "make-candidate"  # a candidate of a fine-tuning's report becomes a model that is ready
    CHECK_DATASET = "check-dataset"  # an uploaded data set becomes ready or rejected


CHECKS = frozenset({JobKind.CHECK_MODEL, JobKind.CHECK_DATASET})
"""The jobs that check uploads: short ones, which their owners wait for."""


class UploadState(StrEnum):
    """Where an uploaded model or data set stands."""

    VALIDATING = "validating"  # its check job has not ended
    READY = "ready"  # can be used in jobs
    REJECTED = "rejected"  # its error says why
    DELETED = "deleted"  # its file is gone; jobs and fine-tuned models still name it
