"""What routes ask for: the database, the files, the queue and the settings; api/access.py makes it the asker's own."""

from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from api.errors import ServiceBusy
from api.metrics import Metrics
from api.rates import Rates
from jobs.database import Sessions
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.storage import Storage

THREADS = 100  # of the pool that routes run in
UPLOADS = 30  # at once; each holds a thread for as long as its client sends
STREAMS = 50  # of events, at once; each holds a thread most of the time


class Slots:
    """Room for a number of long requests at once, so that they leave threads for the short ones."""

    def __init__(self, count: int, what: str) -> None:
        self._free = BoundedSemaphore(count)
        self._busy = f"{count} {what} are open already; try again in a few seconds."

    def __enter__(self) -> None:
        """Take a slot. Raises: ServiceBusy when there is none."""
        if not self._free.acquire(blocking=False):
            raise ServiceBusy(self._busy)

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._free.release()


@dataclass(frozen=True, slots=True)
class Service:
    """What one process of the web service holds; where it is somebody's, `sessions` show nobody else's rows."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    queue: Queue
    uploads: Slots
    streams: Slots
    rates: Rates
    metrics: Metrics
    owner: str = ""
    key_id: str | None = None


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


_PRINTABLE = r"^[\x21-\x7e]+$"

ServiceDep = Annotated[Service, Depends(_service)]
Id = Annotated[str, Path(alias="id", pattern=_PRINTABLE, max_length=100)]
After = Annotated[str | None, Query(pattern=_PRINTABLE, max_length=100, description="`last_id` of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="most items in the page")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="your name for this request: sent again it gets the first answer and makes nothing new",
    ),
]
