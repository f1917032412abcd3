"""Limits on the requests and pings of an owner per minute. Each process of the service counts its own."""

import math
import time
from typing import Literal

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.problems.errors import RateExceeded


class Rates:
    """Counts the requests or pings of each owner in the last minute.

    Args:
        most: maximum per minute; 0 for no limit.
        resource: the kind of request that is counted.
    """

    def __init__(self, most: int, resource: Literal["requests", "pings"] = "requests") -> None:
        self._resource: Literal["requests", "pings"] = resource
        self._item = RateLimitItemPerMinute(most) if most else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, owner: str) -> None:
        """Count one request. Raises: RateExceeded, with the seconds until the next one is allowed."""
        if self._item is None or self._limiter.hit(self._item, owner):
            return
        seconds = self._limiter.get_window_stats(self._item, owner).reset_time - time.time()
        most = self._item.amount
        raise RateExceeded(
            f"You have made {most:,} {self._resource} within a minute, the maximum allowed",
            resource=self._resource,
            most=most,
            seconds=max(1, math.ceil(seconds)),
        )
