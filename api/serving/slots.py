"""Places for long requests, shared out among owners."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from api.problems.errors import ServiceBusy


class Slots:
    """Places for long requests, shared out among their owners, so that they leave threads for the short ones.

    An owner may hold as many places as are free, so one alone gets half of them, and whoever comes next still gets some.

    Source: Choudhury & Hahne 1998, "Dynamic queue length thresholds for shared-memory packet switches", with α = 1.
    """

    def __init__(self, count: int, what: str) -> None:
        self._count, self._what = count, what
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def of(self, owner: str) -> Iterator[None]:
        """Hold a place within. Raises: ServiceBusy when there is none for that owner."""
        with self._lock:
            held = self._held[owner]
            if held >= self._count - self._held.total():
                raise ServiceBusy(
                    f"You have {held} {self._what} open, and others need places; try again in a few seconds."
                )
            self._held[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[owner] -= 1
                self._held += Counter()  # forgets owners who hold none
