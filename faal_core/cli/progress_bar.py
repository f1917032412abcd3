"""How far a computation is: a bar on standard error, and a line for every finished attack and epoch."""

import math
import time
from types import TracebackType
from typing import Self

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from faal_core.reports.terminal import row_line
from faal_core.reports.text import shown, time_left
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.results.finetune_documents import EpochRow


class ProgressBar:
    """A `Progress` for people: one bar that starts anew with each stage; without a terminal only the lines.

    Args:
        minutes: after which the result is due; no end when absent.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._due = math.inf if minutes is None else time.monotonic() + 60 * minutes
        stage = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        rest = TextColumn("{task.fields[rest]}")
        self._bars = Progress(*stage, rest, console=Console(stderr=True), transient=True)
        self._stage = "starting"
        self._task = self._bars.add_task(self._stage, total=None, rest="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> None:
        """The bar starts anew."""
        self._stage = name
        self._bars.reset(self._task, description=name, total=total)

    def advance(self, count: int = 1) -> None:
        """The bar grows."""
        self._bars.advance(self._task, count)

    def expect(self, seconds: float) -> None:
        """How long the whole audit takes from here stands beside the bar, which itself tells of the stage."""
        self._bars.update(self._task, rest=f"audit: {time_left(seconds)}")

    def record(self, row: BaseModel) -> None:
        """Print a line for a finished attack or epoch, and for a warning."""
        if isinstance(row, AttackRow | EpochRow):
            self._print(row_line(self._stage, row))
        elif isinstance(row, ReliabilityWarning):
            self._print(f"Warning: {row.message} {row.advice}")

    def _print(self, line: str) -> None:
        self._bars.console.print(shown(line), highlight=False, markup=False, soft_wrap=True)

    def recall(self, row: BaseModel) -> None:
        """Nothing: whoever takes a training up again has read of its epochs."""

    def time_left(self) -> float:
        """Until the result is due."""
        return self._due - time.monotonic()
