"""Lists in pages that stay put while rows are added: newest first, each page after the last id of the one before."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows of a list, whether there are more after them, and the id of the last."""

    data: list[Row]
    has_more: bool
    last_id: str | None


def page(
    session: Session, query: Select[Row], key: InstrumentedAttribute[str], *, after: str | None, limit: int
) -> Page[Row]:
    """At most `limit` rows of the query, newest first, after the one of id `after`."""
    if after is not None:
        query = query.where(key < after)
    rows = list(session.scalars(query.order_by(key.desc()).limit(limit + 1)))
    shown = rows[:limit]
    return Page(shown, len(rows) > limit, getattr(shown[-1], key.key) if shown else None)
