"""How often an owner may ask or ping, counted by each process of the service."""

import time
from typing import Literal

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.problems.errors import RateExceeded


class Rates:
    """Requests or pings of each owner in the last minute.

    Args:
        most: a minute; 0 is no limit.
        of: what is counted.
    """

    def __init__(self, most: int, of: Literal["requests", "pings"] = "requests") -> None:
        self._of = of
        self._item = RateLimitItemPerMinute(most) if most else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, owner: str) -> None:
        """One more. Raises: RateExceeded, with the seconds until there is room again."""
        if self._item is None or self._limiter.hit(self._item, owner):
            return
        seconds = self._limiter.get_window_stats(self._item, owner).reset_time - time.time()
        most = self._item.amount
        raise RateExceeded(
            f"You may make {most:,} {self._of} a minute", of=self._of, most=most, seconds=max(1, round(seconds))
        )
