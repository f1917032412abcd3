"""The optional fields of every job."""

from datetime import datetime
from typing import TypedDict


class JobTerms(TypedDict, total=False):
    """The optional fields of a job: metadata, priority, pool and limits."""

    metadata: dict[str, str]
    priority: int
    pool: str | None
    budget_minutes: float | None
    deadline: datetime | None
