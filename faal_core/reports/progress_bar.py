"""Progress in terminals and notebooks: a bar, and a line for every finished attack and epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from faal_core.progress import TimeLimit
from faal_core.reports.terminal import row_line
from faal_core.reports.text import sanitise, time_left
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.results.finetune_documents import EpochRow


class ProgressBar(TimeLimit):
    """A `Progress` for people, on standard error: one bar per stage; outside of terminals and notebooks only the lines.

    Args:
        minutes: the time until the deadline; no limit when absent.
    """

    def __init__(self, minutes: float | None = None) -> None:
        super().__init__(minutes)
        stage = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        rest = TextColumn("{task.fields[rest]}")
        console = Console(stderr=True)
        self._bars = Bars(*stage, rest, console=console, transient=True, disable=not _is_watched(console))
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
        """Reset the bar for a new stage."""
        self._stage = name
        self._bars.reset(self._task, description=name, total=total)

    def advance(self, count: int = 1) -> None:
        """Move the bar forward."""
        self._bars.advance(self._task, count)

    def set_eta(self, seconds: float) -> None:
        """Show how long the rest of the whole audit takes, beside the bar of the stage."""
        self._bars.update(self._task, rest=f"audit: {time_left(seconds)}")

    def record(self, row: BaseModel) -> None:
        """Print a line for a finished attack or epoch, and for a warning."""
        if isinstance(row, AttackRow | EpochRow):
            self._print(row_line(self._stage, row))
        elif isinstance(row, ReliabilityWarning):
            self._print(f"Warning: {row.message} {row.advice}")

    def _print(self, line: str) -> None:
        self._bars.console.print(sanitise(line), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def show_progress(minutes: float | None) -> Iterator[TimeLimit]:
    """Provide a progress bar in a terminal or a notebook, and a mere time limit elsewhere."""
    if not _is_watched(Console(stderr=True)):
        yield TimeLimit(minutes)
        return
    with ProgressBar(minutes) as bar:
        yield bar


def _is_watched(console: Console) -> bool:
    """Return whether a person sees a bar: the console is a terminal, or a notebook that has ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
