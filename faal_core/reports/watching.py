"""Choose how a computation in Python shows its progress."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from numbers import Real

from faal_core.errors import InvalidSpec
from faal_core.progress import Progress, TimeLimit


@contextmanager
def choose_progress(progress: Progress | bool, minutes: float | None) -> Iterator[Progress]:
    """Provide the caller's own `Progress`, a bar where one is wanted and rich is installed, or a mere time limit.

    Args:
        progress: True shows a bar in terminals and notebooks alone.
        minutes: the time until the deadline; no limit when absent. A `Progress` of the caller sets its own.
    Raises: InvalidSpec for minutes that are no number, or beside a `Progress` of the caller.
    """
    if minutes is not None and (not isinstance(minutes, Real) or math.isnan(minutes)):
        raise InvalidSpec(f"minutes: {minutes!r} is no number of minutes.")
    if minutes is not None and not isinstance(progress, bool):
        raise InvalidSpec("minutes: a Progress of your own sets its own limit of time. Leave one of the two out.")
    if not isinstance(progress, bool):
        yield progress
    elif not progress or find_spec("rich") is None:
        yield TimeLimit(minutes)
    else:
        from faal_core.reports.progress_bar import show_progress

        with show_progress(minutes) as bar:
            yield bar
