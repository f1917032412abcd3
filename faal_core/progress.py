"""How a long computation tells how far it is, and how it is stopped or told to come to an end."""

import math
from typing import Protocol, runtime_checkable

from pydantic import BaseModel


class Cancelled(BaseException):
    """The work was called off. Not an error: no `except Exception` may swallow it."""


@runtime_checkable
class Progress(Protocol):
    """Where `audit`, `train` and `finetune` report to; every method may raise `Cancelled`."""

    def stage(self, name: str, total: int) -> None:
        """A new stage begins: `total` units of work (images for an audit, training images for an epoch)."""

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""

    def expect(self, seconds: float) -> None:
        """The rest of this audit takes about that long at most: an estimate from what was done so far."""

    def record(self, row: BaseModel) -> None:
        """A finished epoch or attack, for pages that watch."""

    def recall(self, row: BaseModel) -> None:
        """An epoch that an earlier run has finished and recorded, unless it was killed just then."""

    def time_left(self) -> float:
        """Until the result is due, of which what was found until then is made; infinite where there is time enough."""


class NoProgress:
    """Reports to nobody."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def expect(self, seconds: float) -> None:
        """Nothing."""

    def record(self, row: BaseModel) -> None:
        """Nothing."""

    def recall(self, row: BaseModel) -> None:
        """Nothing."""

    def time_left(self) -> float:
        """There is time enough."""
        return math.inf


class Part:
    """A part of a larger computation: its stages carry the part's name, its rows are passed on or kept back.

    Args:
        limited: whether the time left to the whole is its own; otherwise it is finished, however little that is.
    """

    def __init__(self, whole: Progress, name: str, *, rows: bool = True, limited: bool = False) -> None:
        self._whole, self._name, self._rows, self._limited = whole, name, rows, limited

    def stage(self, name: str, total: int) -> None:
        """The whole's stage, named after both."""
        self._whole.stage(f"{self._name}: {name}", total)

    def advance(self, count: int = 1) -> None:
        """The whole's advance."""
        self._whole.advance(count)

    def expect(self, seconds: float) -> None:
        """Nothing: the rest of a part is not the rest of the whole."""

    def record(self, row: BaseModel) -> None:
        """The whole's row, unless this part keeps its rows back."""
        if self._rows:
            self._whole.record(row)

    def recall(self, row: BaseModel) -> None:
        """Likewise."""
        if self._rows:
            self._whole.recall(row)

    def time_left(self) -> float:
        """The whole's, or time enough."""
        return self._whole.time_left() if self._limited else math.inf
