"""The interface by which a long computation reports its progress, is cancelled, or ends at a deadline."""

import math
import time
from typing import Protocol, runtime_checkable

from pydantic import BaseModel


class Cancelled(BaseException):
    """The work was cancelled. It is no error: no `except Exception` may swallow it."""


@runtime_checkable
class Progress(Protocol):
    """Receives the progress of `audit`, `train` and `finetune`; every method may raise `Cancelled`."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` units of work: images of an audit, training images of an epoch."""

    def advance(self, count: int = 1) -> None:
        """Count `count` more units as done."""

    def set_eta(self, seconds: float) -> None:
        """Set how long the rest of this audit takes at most, estimated from the work so far."""

    def record(self, row: BaseModel) -> None:
        """Record a finished epoch or attack, or a warning, for pages that watch."""

    def replay(self, row: BaseModel) -> None:
        """Record a row of an earlier run again, which may have been killed before it recorded the row."""

    def time_left(self) -> float:
        """Return the seconds until the deadline; infinite where there is none."""


class NoProgress:
    """Discards all reports, and sets no time limit."""

    def stage(self, name: str, total: int) -> None:
        """Ignore the stage."""

    def advance(self, count: int = 1) -> None:
        """Ignore the units."""

    def set_eta(self, seconds: float) -> None:
        """Ignore the estimate."""

    def record(self, row: BaseModel) -> None:
        """Ignore the row."""

    def replay(self, row: BaseModel) -> None:
        """Ignore the row."""

    def time_left(self) -> float:
        """Return infinity: there is no deadline."""
        return math.inf


class TimeLimit(NoProgress):
    """Discards all reports, and sets a time limit.

    Args:
        minutes: the time until the deadline; no limit when absent.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def time_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - time.monotonic()


class ProgressPart:
    """A part of a larger computation, which reports its stages under the part's name.

    Args:
        rows: whether rows are passed on.
        limited: whether the deadline of the whole holds for this part; otherwise the part has none.
    """

    def __init__(self, whole: Progress, name: str, *, rows: bool = True, limited: bool = False) -> None:
        self._whole, self._name, self._rows, self._limited = whole, name, rows, limited

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of the whole, named after the part and the stage."""
        self._whole.stage(f"{self._name}: {name}", total)

    def advance(self, count: int = 1) -> None:
        """Count `count` more units of the whole as done."""
        self._whole.advance(count)

    def set_eta(self, seconds: float) -> None:
        """Ignore the estimate: the rest of a part is not the rest of the whole."""

    def record(self, row: BaseModel) -> None:
        """Record the row, unless this part keeps its rows back."""
        if self._rows:
            self._whole.record(row)

    def replay(self, row: BaseModel) -> None:
        """Replay the row, unless this part keeps its rows back."""
        if self._rows:
            self._whole.replay(row)

    def time_left(self) -> float:
        """Return the seconds until the deadline of the whole; infinite where it does not hold for this part."""
        return self._whole.time_left() if self._limited else math.inf
