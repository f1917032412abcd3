"""The orders in which jobs are listed: by time, by a figure of the spec or the report, or by the value of a metadata key."""

from typing import Any

from sqlalchemy import ColumnElement, Select, select, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobs.errors import JobNotFound
from jobs.paging import Page, read_bounded_rows
from jobs.tables import Job

NEWEST_FIRST = "-created"
JOB_ORDER = r"^-?(created|epsilon|robust_mean|robust_worst|metadata\.[A-Za-z0-9_.-]{1,64})$"
"""Matches an order: the name of a value, after a minus sign for the largest value first."""

SEARCHED = 10_000
"""The number of newest jobs of an owner in which texts and values of metadata, which no index has, are searched."""

_FIGURES: dict[str, InstrumentedAttribute[Any]] = {
    "epsilon": Job.epsilon,
    "robust_mean": Job.robust_mean,
    "robust_worst": Job.robust_worst,
}


def read_ordered_page(session: Session, query: Select[Job], order: str, *, after: str | None, limit: int) -> Page[Job]:
    """Return at most `limit` jobs of the query in that order, after the one of id `after`; jobs without the value are left out.

    Args:
        order: matches `JOB_ORDER`. By a metadata key, only the newest `SEARCHED` jobs are listed.

    Raises: JobNotFound where the order needs the job `after`, and it was deleted.
    """
    field, descending = order.removeprefix("-"), order.startswith("-")
    columns = [Job.id.expression]
    if field != "created":
        value = _value(field)
        query = query.where(value.is_not(None))
        columns = [value, Job.id.expression]
        if field not in _FIGURES:
            query = query.where(newest_jobs(session))
    if after is not None:
        last = [after] if field == "created" else [_last_value(session, columns[0], after), after]
        place, end = tuple_(*columns), tuple_(*last)
        query = query.where(place < end if descending else place > end)
    ordered = query.order_by(*(column.desc() if descending else column.asc() for column in columns))
    rows, more = read_bounded_rows(session, ordered, (Job.spec,), limit)
    return Page(rows, more, rows[-1].id if rows else None)


def newest_jobs(session: Session) -> ColumnElement[bool]:
    """Return the condition that a job is one of the newest `SEARCHED` that the session sees."""
    oldest = session.scalar(select(Job.id).order_by(Job.id.desc()).offset(SEARCHED - 1).limit(1))
    return true() if oldest is None else Job.id >= oldest


def _value(field: str) -> ColumnElement[Any]:
    """Return the column or the expression of an order's value."""
    if field in _FIGURES:
        return _FIGURES[field].expression
    return Job.metadata_[field.removeprefix("metadata.")].as_string()


def _last_value(session: Session, value: ColumnElement[Any], job_id: str) -> object:
    """Return the value of the last job of the page before. Raises: JobNotFound."""
    last: object = session.scalar(select(value).where(Job.id == job_id))
    if last is None:
        raise JobNotFound(
            f"The list cannot continue after job {job_id!r}, which has no place in it. List from the start."
        )
    return last
