"""Progress of a waiting command: a moving bar on a terminal, and a plain line every ten seconds anywhere else."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from faal_client import Client, ServiceProblem
from faal_client.resources.objects import JobResource

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0  # between two lines where output is no terminal
SHORTEST_ESTIMATE = 3.0  # seconds of a stage after which its pace is used to estimate the rest


class StageClock:
    """Measures the present stage of a job, and estimates the remaining time from its pace so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._start = clock()
        self._done_before = 0  # when the stage was first observed

    def describe(self, job: JobResource) -> str:
        """Return the job's stage, its progress, the elapsed and the remaining time as a line of text."""
        done, total = (job.progress.done, job.progress.total) if job.progress else (0, None)
        stage = job.stage or job.status
        if stage != self._stage or done < self._done_before:
            self._stage, self._start, self._done_before = stage, self._clock(), done
        seconds, finished = self._clock() - self._start, done - self._done_before
        parts = [f"{stage}: {done:,} of {total:,} images" if total and done else stage, f"{seconds:.0f} s so far"]
        if total and 0 < finished < total - self._done_before and seconds >= SHORTEST_ESTIMATE:
            parts.append(f"about {seconds / finished * (total - done):.0f} s left")
        if job.progress and job.progress.seconds_left is not None:
            parts.append(f"about {job.progress.seconds_left:.0f} s left of this audit")
        return ", ".join(parts)


@contextmanager
def report_wait(console: Console, title: str) -> Iterator[None]:
    """Print the title, then the elapsed time every ten seconds and at the end of the block."""
    begin = time.monotonic()
    console.print(f"{title} …")
    with _repeat(LINE_SECONDS, lambda: console.print(f"  {title}: {time.monotonic() - begin:.0f} s so far")):
        yield
    console.print(f"  done after {time.monotonic() - begin:.0f} s")


@contextmanager
def show_stage(console: Console, client: Client, job_id: str) -> Iterator[None]:
    """Show the progress of the job's present stage while the block runs."""
    clock = StageClock()
    if not console.is_terminal:

        def print_line() -> None:
            job = client.job(job_id)
            console.print(f"  {clock.describe(job)}")

        with _repeat(LINE_SECONDS, print_line):
            yield
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as bars:
        bar = bars.add_task("queued", total=None)
        stage: str | None = None

        def update_bar() -> None:
            nonlocal stage
            job = client.job(job_id)
            if job.stage != stage:
                stage = job.stage
                bars.reset(bar)
            done, total = (job.progress.done, job.progress.total) if job.progress else (0, None)
            bars.update(bar, description=job.stage or job.status, completed=done, total=total)

        with _repeat(POLL_SECONDS, update_bar):
            yield


@contextmanager
def _repeat(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` every `seconds` in a thread, until the block ends or the service fails."""
    ended = threading.Event()

    def repeat() -> None:
        with suppress(httpx.TransportError, ServiceProblem):  # the main thread meets the same error
            while not ended.wait(seconds):
                act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
