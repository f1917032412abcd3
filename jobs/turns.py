"""Which jobs wait, and the order in which workers claim them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, or_, select
from sqlalchemy.orm import Session, aliased

from jobs.clock import now
from jobs.states import SHORT, JobState
from jobs.tables import Job

OVERDUE = (Job.attempt == 0) & Job.deadline.is_not(None) & (Job.deadline < now())
"""Whether a job's deadline passed before a worker started it; a started job ends with the results so far."""


COLUMNS = {"is_short": Job.kind.in_(SHORT), "priority": Job.priority, "owner": Job.owner}
"""The columns by which waiting jobs are grouped. Of the jobs of a group, the oldest is claimed first."""


def in_pool(pool: str | None) -> ColumnElement[bool]:
    """Return the condition that workers of that pool run a job; without a pool, workers that belong to none."""
    return Job.pool.is_(None) if pool is None else or_(Job.pool.is_(None), Job.pool == pool)


def waiting(pool: str | None) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a job waits, and that a worker of that pool may claim it now."""
    delayed = Job.not_before.is_not(None) & (Job.not_before > now())
    return Job.state == JobState.QUEUED, in_pool(pool), ~OVERDUE, ~delayed


def is_job_waiting(session: Session, pool: str | None) -> bool:
    """Return whether a job waits that a worker of that pool may claim now."""
    return session.scalars(select(Job.id).where(*waiting(pool)).limit(1)).one_or_none() is not None


def order_turns(waiting: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Return the query of the groups of waiting jobs, in the order in which workers claim from them."""
    columns: list[Any] = [column.label(name) for name, column in COLUMNS.items()]
    groups = select(*columns, func.min(Job.id).label("first")).where(*waiting).group_by(*columns).subquery()
    running = (
        select(Job.owner, func.count().label("jobs"))
        .where(Job.state == JobState.RUNNING)
        .group_by(Job.owner)
        .subquery()
    )
    last = aliased(Job)
    of_owner = select(last.started_at).where(last.owner == groups.c.owner, last.started_at.is_not(None))
    newest = of_owner.order_by(last.started_at.desc()).limit(1)
    last_began = newest.scalar_subquery()
    last_was_short = newest.with_only_columns(last.kind.in_(SHORT)).scalar_subquery()
    return (
        select(groups)
        .outerjoin(running, running.c.owner == groups.c.owner)
        .order_by(
            (groups.c.is_short & ~func.coalesce(last_was_short, false())).desc(),
            groups.c.priority.desc(),
            func.coalesce(running.c.jobs, 0),
            last_began.asc().nulls_first(),
            groups.c.is_short.desc(),
            groups.c.first,
        )
    )
