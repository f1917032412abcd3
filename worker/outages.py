"""Failures of the database, the storage and the disk: how long a worker waits for them, and how a job's process reports them."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from faal_core.errors import FaalError
from jobs.database import DatabaseFailure, is_unavailable
from jobs.errors import FileVanished, JobsError, StorageFull, StoreUnavailable
from jobs.states import Outage
from jobs.storage import disk_is_full

logger = logging.getLogger(__name__)

DATABASE_PATIENCE_SECONDS = 300.0  # a restart or a failover of PostgreSQL takes a minute or two
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 4.0

EXIT_STATUS: Mapping[Outage, int] = MappingProxyType(
    {
        "store-unavailable": os.EX_TEMPFAIL,
        "database-unavailable": os.EX_UNAVAILABLE,
        "storage-full": os.EX_CANTCREAT,
    }
)
"""The status that a job's process exits with after an outage; the supervisor then releases the job."""

Answer = TypeVar("Answer")


def find_outage(error: Exception) -> Outage | None:
    """Return the outage that an exception means; None if it means none."""
    if isinstance(error, StoreUnavailable | FileVanished):
        return "store-unavailable"
    if isinstance(error, StorageFull):
        return "storage-full"
    if isinstance(error, FaalError | JobsError):  # whose text may quote an upload
        return None
    if disk_is_full(error):
        return "storage-full"
    return "database-unavailable" if is_unavailable(error) else None


def ask_database(
    question: Callable[[], Answer],
    *,
    seconds: float = DATABASE_PATIENCE_SECONDS,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Answer:
    """Call `question` until the database answers, and return its result.

    Args:
        question: a whole transaction, which may run several times.
        seconds: time during which it is called again while the database is unavailable.
        is_stopping: when it returns true, the next failure is final.
    Raises: what `question` raises.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        try:
            return question()
        except DatabaseFailure as failure:
            if not is_unavailable(failure) or time.monotonic() + pause > deadline or is_stopping():
                raise
            logger.warning("the query is repeated in %.1f s: %s", pause, failure)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
