"""Lists in pages that stay the same while rows are added: newest first, each page after the last id of the one before.

Rows of some tables hold documents that clients sent, of up to a megabyte each: a page of those ends early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, Text, cast, func
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")

PAGE_CHARACTERS = 4 * 2**20  # of JSON in one page: as Python objects they take some ten times as many bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows of a list, whether there are more after them, and the id of the last."""

    data: list[Row]
    has_more: bool
    last_id: str | None


def read_page(
    session: Session,
    query: Select[Row],
    key: InstrumentedAttribute[str],
    *,
    after: str | None,
    limit: int,
    documents: Sequence[InstrumentedAttribute[Any]] = (),
) -> Page[Row]:
    """Return at most `limit` rows of the query, newest first, after the one of id `after`.

    Args:
        documents: JSON columns of the table; the page ends before the rows hold more than `PAGE_CHARACTERS` of them.
    """
    if after is not None:
        query = query.where(key < after)
    query = query.order_by(key.desc())
    if not documents:
        rows = list(session.scalars(query.limit(limit + 1)))
        page_rows, more = rows[:limit], len(rows) > limit
    else:
        page_rows, more = read_bounded_rows(session, query, documents, limit)
    return Page(page_rows, more, getattr(page_rows[-1], key.key) if page_rows else None)


def read_bounded_rows(
    session: Session, query: Select[Row], documents: Sequence[InstrumentedAttribute[Any]], limit: int
) -> tuple[list[Row], bool]:
    """Return the first rows of an ordered query, and whether there are more.

    There are at most `limit` rows, with at most `PAGE_CHARACTERS` of JSON in the columns `documents`, and at least one.
    """
    lengths = [func.coalesce(func.length(cast(document, Text)), 0) for document in documents]
    sizes = session.scalars(query.with_only_columns(reduce(add, lengths)).limit(limit + 1)).all()
    count, characters = 0, 0
    for one in sizes[:limit]:
        characters += one
        if count and characters > PAGE_CHARACTERS:
            break
        count += 1
    return list(session.scalars(query.limit(count))), len(sizes) > count
