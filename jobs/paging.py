"""Lists in pages that stay put while rows are added: newest first, each page after the last id of the one before."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows of a list, and whether there are more after them."""

    data: list[Row]
    has_more: bool


def page(
    session: Session, query: Select[Row], key: InstrumentedAttribute[str], *, after: str | None, limit: int
) -> Page[Row]:
    """At most `limit` rows of the query, newest first, after the one of id `after`."""
    if after is not None:
        query = query.where(key < after)
    rows = list(session.scalars(query.order_by(key.desc()).limit(limit + 1)))
    return Page(rows[:limit], len(rows) > limit)
