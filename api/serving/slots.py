"""Limit the number of long requests, and share their places among owners."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from api.problems.errors import ServiceBusy


class Slots:
    """A number of places for long requests, shared among owners, so that threads stay free for short requests.

    An owner may hold as many places as are free. So a single owner gets half of them, and the next owner still gets some.

    Args:
        count: number of places.
        name: plural name of the requests, for the error message, such as "open uploads".
        remedy: what the owner can do when there is no place, in a sentence.

    Source: Choudhury & Hahne 1998, "Dynamic queue length thresholds for shared-memory packet switches", with α = 1.
    """

    def __init__(self, count: int, name: str, remedy: str = "Close one, or try again in a few seconds.") -> None:
        self._count, self._name, self._remedy = count, name, remedy
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def for_owner(self, owner: str) -> Iterator[None]:
        """Hold a place during the block. Raises: ServiceBusy if the owner may hold no more."""
        with self._lock:
            held = self._held[owner]
            if held >= self._count - self._held.total():
                raise ServiceBusy(f"You have {held} {self._name}, and may start no more at the moment. {self._remedy}")
            self._held[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[owner] -= 1
                self._held += Counter()  # removes owners who hold none
