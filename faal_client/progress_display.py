"""Show the progress of a job: a bar of rich or tqdm in terminals and notebooks, and nothing where nobody watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from faal_client.resources.objects import JobResource, Pending

ProgressCallback = Callable[[Pending], None]


@contextmanager
def show_progress(progress: bool | ProgressCallback) -> Iterator[ProgressCallback]:
    """Yield the function that receives the progress: the caller's own, one that moves a bar, or one that does nothing."""
    if callable(progress):
        yield progress
    elif progress and _is_watched():
        with _show_bar() as update:
            yield update
    else:
        yield _ignore


def describe_pending(job: JobResource) -> Pending:
    """Return the progress of a job."""
    return Pending(job=job.id, status=job.status, stage=job.stage, progress=job.progress)


def _ignore(pending: Pending) -> None:
    """Show nothing."""


def _is_watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _read_amount(pending: Pending) -> tuple[str, int, int | None]:
    """Return the stage, and the amounts done and in all."""
    stage = pending.stage or pending.status.value
    return (stage, 0, None) if pending.progress is None else (stage, pending.progress.done, pending.progress.total)


@contextmanager
def _show_bar() -> Iterator[ProgressCallback]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        with _show_tqdm_bar() as update:
            yield update
        return
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task, last_stage = bars.add_task("waiting", total=None), ""

        def update_bar(pending: Pending) -> None:
            nonlocal last_stage
            stage, done, total = _read_amount(pending)
            if stage != last_stage:
                bars.reset(task)
                last_stage = stage
            bars.update(task, description=stage, completed=done, total=total)

        yield update_bar


@contextmanager
def _show_tqdm_bar() -> Iterator[ProgressCallback]:
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        yield _ignore
        return
    with tqdm(leave=False) as bar:

        def update_bar(pending: Pending) -> None:
            stage, done, total = _read_amount(pending)
            if stage != bar.desc:
                bar.reset(total)
                bar.set_description_str(stage, refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        yield update_bar
