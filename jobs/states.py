"""The states of jobs and uploads, and the moves between them: `jobs.moves` derives its guards from this table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from faal_client.vocabulary import FINAL, JobKind, JobState, UploadState

__all__ = [
    "AUDITING",
    "CHECKS",
    "FINAL",
    "MOVES",
    "REPORTING",
    "SHORT",
    "Crash",
    "JobKind",
    "JobState",
    "Move",
    "Outage",
    "ReleaseReason",
    "UploadState",
]


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

Crash = Literal["worker-lost", "out-of-memory"]
"""The job's own process died, or its worker fell silent. Such attempts are counted."""

Outage = Literal["database-unavailable", "store-unavailable", "storage-full"]
"""A service that the worker needs failed. Such an attempt is no crash; the job is tried again after a delay."""

ReleaseReason = Literal["worker-stopped", Crash, Outage]
"""Why a worker released a job. The first is a graceful stop."""


CHECKS = frozenset({JobKind.CHECK_MODEL, JobKind.CHECK_DATASET})
"""The jobs that check uploads."""
SHORT = CHECKS | {JobKind.COMPARE}
"""The jobs that take seconds and that their owners wait for."""
AUDITING = frozenset({JobKind.AUDIT, JobKind.FINETUNE})
"""The jobs whose reports hold audits, with the outcomes of images."""
REPORTING = AUDITING | {JobKind.COMPARE}
"""The jobs that make a report."""
