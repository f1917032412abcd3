"""A job's progress in the jobs table, which also says when the job is to stop."""

import logging
import math
import re
import time
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from faal_core.devices import peak_bytes
from faal_core.progress import Cancelled
from faal_core.results.course import FinetuneCourse
from jobs import lifecycle
from jobs.database import Sessions
from jobs.errors import LeaseLost
from worker.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

WRITE_SECONDS = 0.5
_SHOWN_FRACTION = 0.02  # finished, from which on the time that is left is estimated
_BACK_OFF = 4.0  # after a write that failed, times the seconds it took: a frozen database must not stop the computation


class JobProgress:
    """Writes stage and units done at most every `WRITE_SECONDS`, and each row as an event at once.

    After a write that shows no units, the first units of the stage are written at once, too.

    Each write asks whether the job is to stop or the attempt has lost the lease; either raises Cancelled. While the
    database is unavailable the job computes on, and events wait for the next write. After a write the checkpoint may be stored.

    Args:
        seconds_run: by the attempts before.
        earlier_rows: rows that are events already, as `record` wrote them without their stages.
        seconds_allowed: for this attempt, from now on.
    """

    def __init__(
        self,
        sessions: Sessions,
        job_id: str,
        attempt: int,
        checkpoint: Checkpoint,
        *,
        earlier_rows: Collection[Mapping[str, Any]] = (),
        seconds_run: float = 0.0,
        seconds_allowed: float = math.inf,
    ) -> None:
        self._sessions, self._job_id, self._attempt, self._checkpoint = sessions, job_id, attempt, checkpoint
        self._earlier_rows = earlier_rows
        self._counted_from = time.monotonic() - seconds_run
        self._deadline = time.monotonic() + seconds_allowed
        self._stage, self._done, self._total = "starting", 0, 0
        self._stage_began = time.monotonic()
        self._seconds_left: float | None = None
        self._course: FinetuneCourse | None = None
        self._unwritten: list[tuple[str, dict[str, Any]]] = []
        self._write_at, self._awaits_units = 0.0, False

    def follow(self, course: FinetuneCourse) -> None:
        """Estimate the time that is left from the stages of a fine-tuning."""
        self._course = course

    def stage(self, name: str, total: int) -> None:
        """Begin a new stage of `total` units; the stage before becomes an event with the next write."""
        if self._course is not None:
            self._course.begin(name)
        self._unwritten.append(self._stage_event())
        self._stage, self._done, self._total = name, 0, total
        self._stage_began = time.monotonic()
        self.advance(0)

    def advance(self, count: int = 1) -> None:
        """Add `count` units to those done. Raises: Cancelled."""
        self._done += count
        if time.monotonic() >= self._write_at or (self._awaits_units and self._done):
            self._write()

    def set_eta(self, seconds: float) -> None:
        """Store the estimate of a whole audit with the next write."""
        self._seconds_left = seconds

    def record(self, row: BaseModel) -> None:
        """Write an event of the row's kind ("epoch" for `EpochRow`) with its fields and stage. Raises: Cancelled."""
        self._unwritten.append((event_kind(row), {"stage": self._stage, **row.model_dump(mode="json")}))
        self._write()

    def replay(self, row: BaseModel) -> None:
        """Write the row's event, unless an earlier attempt has written it. Raises: Cancelled."""
        if row.model_dump(mode="json") not in self._earlier_rows:
            self.record(row)

    def pending_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events that are not written yet, and last the event of the present stage, which ends."""
        return [*self._unwritten, self._stage_event()]

    def _stage_event(self) -> tuple[str, dict[str, Any]]:
        """Return the event of the present stage: its name, the units done, and its duration in seconds."""
        seconds = round(time.monotonic() - self._stage_began, 3)
        return "stage", {"stage": self._stage, "done": self._done, "seconds": seconds}

    def time_left(self) -> float:
        """Return the seconds until the job's budget is spent or its deadline comes."""
        return self._deadline - time.monotonic()

    def seconds_run(self) -> float:
        """Return the seconds that all attempts have run until now."""
        return time.monotonic() - self._counted_from

    def _estimate(self) -> None:
        """Estimate the time that is left of a fine-tuning from the time that all attempts took for what is done."""
        if self._course is None:
            return
        fraction = self._course.fraction(self._done / self._total if self._total else 0.0)
        if fraction >= _SHOWN_FRACTION:
            self._seconds_left = self.seconds_run() * (1 - fraction) / fraction

    def _write(self) -> None:
        start, seconds_lost = time.monotonic(), 0.0
        self._awaits_units = False
        self._estimate()
        try:
            with self._sessions.begin() as session:
                job = lifecycle.record_progress(
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
                    lifecycle.record_progress(session, self._job_id, self._attempt, event=event)
        except LeaseLost as lost:
            raise Cancelled(lost.message) from None
        except Exception as error:  # noqa: BLE001 - whatever the database says, hours of computing outweigh a line of progress
            logger.warning("the progress of job %s was not written: %s", self._job_id, error)
            seconds_lost = time.monotonic() - start
        else:
            self._unwritten.clear()
            self._awaits_units = not self._done
            if job.cancel_requested or job.pause_requested:
                raise Cancelled(f"a client asked job {self._job_id} to stop")
        self._checkpoint.store_if_due()
        self._write_at = time.monotonic() + WRITE_SECONDS + _BACK_OFF * seconds_lost


def event_kind(row: BaseModel) -> str:
    """Return the row's class name in kebab case, without "row"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(row).__name__).lower().removesuffix("-row")
