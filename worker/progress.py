"""A job's progress in the jobs table, and how the job learns that it shall stop."""

import logging
import math
import re
import time
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from faal_core.device_memory import peak_bytes
from faal_core.progress import Cancelled
from jobs import lifecycle
from jobs.database import Sessions
from jobs.errors import LeaseLost
from worker.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

WRITE_SECONDS = 0.5
_BACK_OFF = 4.0  # after a write that failed, times the seconds it took: a frozen database must not stop the computation


class JobProgress:
    """Writes stage and units done at most every `WRITE_SECONDS`, and each row as an event at once.

    Each write asks whether the job shall stop or is no longer this attempt's; either raises Cancelled. While
    the database is away the job computes on, and events wait for the next write. After a write the checkpoint follows.

    Args:
        seconds_run: by the attempts before.
        told: rows that are events already, as `record` wrote them without their stages.
        seconds_allowed: to this one, from now on.
    """

    def __init__(
        self,
        sessions: Sessions,
        job_id: str,
        attempt: int,
        checkpoint: Checkpoint,
        *,
        told: Collection[Mapping[str, Any]] = (),
        seconds_run: float = 0.0,
        seconds_allowed: float = math.inf,
    ) -> None:
        self._sessions, self._job_id, self._attempt, self._checkpoint = sessions, job_id, attempt, checkpoint
        self._told = told
        self._counted_from = time.monotonic() - seconds_run
        self._due = time.monotonic() + seconds_allowed
        self._stage, self._done, self._total = "starting", 0, 0
        self._stage_began = time.monotonic()
        self._seconds_left: float | None = None
        self._unwritten: list[tuple[str, dict[str, Any]]] = []
        self._write_at = 0.0

    def stage(self, name: str, total: int) -> None:
        """A new stage of `total` units begins; the one before becomes an event with the next write."""
        self._unwritten.append(self._stage_event())
        self._stage, self._done, self._total = name, 0, total
        self._stage_began = time.monotonic()
        self.advance(0)

    def advance(self, count: int = 1) -> None:
        """`count` more units are done. Raises: Cancelled."""
        self._done += count
        if time.monotonic() >= self._write_at:
            self._write()

    def expect(self, seconds: float) -> None:
        """The next write says so. Only a whole audit can tell, so no later stage makes it wrong."""
        self._seconds_left = seconds

    def record(self, row: BaseModel) -> None:
        """An event of the row's kind ("epoch" for `EpochRow`) with its fields and stage. Raises: Cancelled."""
        self._unwritten.append((event_kind(row), {"stage": self._stage, **row.model_dump(mode="json")}))
        self._write()

    def recall(self, row: BaseModel) -> None:
        """Likewise, where no attempt before has made it one. Raises: Cancelled."""
        if row.model_dump(mode="json") not in self._told:
            self.record(row)

    def untold(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that no write has taken yet, and last that of the present stage, which ends."""
        return [*self._unwritten, self._stage_event()]

    def _stage_event(self) -> tuple[str, dict[str, Any]]:
        """The present stage's name, the units that are done, and how many seconds it took."""
        seconds = round(time.monotonic() - self._stage_began, 3)
        return "stage", {"stage": self._stage, "done": self._done, "seconds": seconds}

    def time_left(self) -> float:
        """Until the job's budget is spent or its deadline comes."""
        return self._due - time.monotonic()

    def seconds_run(self) -> float:
        """By all attempts until now."""
        return time.monotonic() - self._counted_from

    def _write(self) -> None:
        begun, waited = time.monotonic(), 0.0
        try:
            with self._sessions.begin() as session:
                job = lifecycle.record(
                    session,
                    self._job_id,
                    self._attempt,
                    stage=self._stage,
                    done=self._done,
                    total=self._total,
                    seconds_left=self._seconds_left,
                    seconds_run=self.seconds_run(),
                    gpu_bytes=peak_bytes(),
                )
                for event in self._unwritten:
                    lifecycle.record(session, self._job_id, self._attempt, event=event)
        except LeaseLost as lost:
            raise Cancelled(lost.message) from None
        except Exception as error:  # noqa: BLE001 - whatever the database says, hours of computing outweigh a line of progress
            logger.warning("the progress of job %s was not written: %s", self._job_id, error)
            waited = time.monotonic() - begun
        else:
            self._unwritten.clear()
            if job.cancel_requested or job.pause_requested:
                raise Cancelled(f"that job {self._job_id} stops was asked for")
        self._checkpoint.follow()
        self._write_at = time.monotonic() + WRITE_SECONDS + _BACK_OFF * waited


def event_kind(row: BaseModel) -> str:
    """The row's class name in kebab case, without "row"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(row).__name__).lower().removesuffix("-row")
