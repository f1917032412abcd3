"""How times are written on pages."""

from datetime import UTC, datetime, timedelta

import pytest

from api.templating import KINDS, ago, duration
from jobs.states import JobKind


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (59, "just now"),
        (61, "1 min ago"),
        (3 * 3600, "3 h ago"),
        (2 * 86400, "2 d ago"),
        (-5, "just now"),
    ],
)
def test_the_past_is_told_roughly(seconds: int, words: str) -> None:
    """The largest unit that fits is told; a clock that runs ahead of ours does no harm."""
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (225, "3 min 45 s"), (3600, "1 h 0 min"), (3600 * 25 + 61, "25 h 1 min")],
)
def test_spans_have_two_units(seconds: float, words: str) -> None:
    """A span of time is told in its two largest units."""
    assert duration(timedelta(seconds=seconds)) == words


def test_every_kind_of_job_has_a_name() -> None:
    """No kind of job is nameless on pages."""
    assert set(KINDS) == set(JobKind)
