"""Decide whether and when a request is sent again."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from httpx import Response, codes

from faal_client.errors import read_problem

RETRY_WAITS = (1.0, 5.0, 15.0, 30.0)  # seconds before each new try, if the answer has no Retry-After
LONGEST_WAIT = 60.0  # seconds; a request is not sent again if it would have to wait for longer
_REPEATABLE = {"GET", "PUT", "DELETE"}  # the methods in use that have the same effect when they are repeated


class Retries:
    """The tries of one request.

    Args:
        most: maximum number of new tries.
        method: the HTTP method.
        headers: the headers of the request; an Idempotency-Key makes any request repeatable.
    """

    def __init__(self, most: int, method: str, headers: Mapping[str, str]) -> None:
        self._left = most if method in _REPEATABLE or "Idempotency-Key" in headers else 0
        self._waits = iter(RETRY_WAITS)

    def wait_after(self, answer: Response) -> float | None:
        """Return the seconds to wait before the request is sent again; None if this answer is the last one."""
        if answer.status_code not in (codes.TOO_MANY_REQUESTS, codes.SERVICE_UNAVAILABLE):
            return None
        problem = read_problem(answer)
        if problem is not None and problem.code == "quota-exceeded":  # it ends with a job or a deletion, not by itself
            return None
        return self._next_wait(read_retry_after(answer.headers.get("Retry-After")))

    def wait_after_break(self) -> float | None:
        """Return the seconds to wait after a connection broke; None if the request is not sent again."""
        return self._next_wait(None)

    def _next_wait(self, asked: float | None) -> float | None:
        own = next(self._waits, RETRY_WAITS[-1])
        wait = own if asked is None else asked
        if not self._left or wait > LONGEST_WAIT:
            return None
        self._left -= 1
        return wait


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds in a Retry-After header, which has a number or a date; None if it is absent or unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            time = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (time.replace(tzinfo=time.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
