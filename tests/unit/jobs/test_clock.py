"""The database's clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import literal, select
from sqlalchemy.exc import StatementError

from jobs.clock import UtcDateTime, now
from jobs.tables import Artifact


def _round_trip(sessions, created_at):
    with sessions.begin() as session:
        session.add(Artifact(sha256="a" * 64, media_type="text/plain", size=1, created_at=created_at))
    with sessions() as session:
        return session.get_one(Artifact, "a" * 64).created_at


def test_times_come_back_in_utc(sessions):
    """A time written in any zone is read as the same moment, in UTC, to the microsecond."""
    tokyo = timezone(timedelta(hours=9))
    read = _round_trip(sessions, datetime(2026, 3, 1, 8, 30, 15, 123456, tzinfo=tokyo))
    assert read == datetime(2026, 2, 28, 23, 30, 15, 123456, tzinfo=UTC)
    assert read.tzinfo is UTC


def test_naive_times_are_refused(sessions):
    """A time without a zone is refused, since it is ambiguous."""
    with pytest.raises(StatementError, match="no time zone"):
        _round_trip(sessions, datetime(2026, 3, 1))  # noqa: DTZ001 - the mistake under test


def test_now_is_now(sessions):
    """The database's clock on this machine equals this machine's clock."""
    with sessions() as session:
        read = session.scalar(select(now()))
    assert abs(read - datetime.now(UTC)) < timedelta(seconds=2)


@pytest.mark.parametrize("seconds", [-86_400.0, -0.5, 0.25, 90.0])
def test_now_is_moved(sessions, seconds):
    """`now(s)` is s seconds after `now()`, also for parts of a second and into the past."""
    with sessions() as session:
        start, shifted_time = session.execute(select(now(), now(seconds))).one()
    assert (shifted_time - start).total_seconds() == pytest.approx(seconds, abs=0.02)


@pytest.mark.parametrize("microsecond", [0, 1, 500_000, 999_999])
def test_stored_times_compare_with_the_clock(sessions, microsecond):
    """Comparisons of stored times with the database's clock are right, whatever their fraction of a second."""
    near = datetime.now(UTC).replace(microsecond=microsecond)
    past, future = (literal(near + timedelta(seconds=s), UtcDateTime()) for s in (-2, 60))
    with sessions() as session:
        assert session.execute(select(past < now(), future > now())).one() == (True, True)
