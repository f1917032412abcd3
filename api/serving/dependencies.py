"""What routes ask for: the database, the files, the queue and the settings; api/access makes it the asker's own."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from api.serving.downloads import Downloads
from api.serving.metrics import Metrics
from api.serving.rates import Rates
from api.serving.readiness import Readiness
from api.serving.slots import Slots
from jobs.database import Sessions
from jobs.queue import Queue
from jobs.settings import MAX_PRIORITY, Settings
from jobs.storage import Storage

THREADS = 100  # of the pool that routes run in
UPLOADS = 30  # at once, of all owners; each holds a thread for as long as its client sends
DOWNLOADS = 10  # verified at once, of all owners; each holds a thread while its file is read
STREAMS = 50  # of events, at once, of all owners; each holds a thread most of the time


@dataclass(frozen=True, slots=True)
class Service:
    """What one process of the web service holds; where it is somebody's, `sessions` show nobody else's rows."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    queue: Queue
    uploads: Slots
    downloads: Downloads
    streams: Slots
    rates: Rates
    metrics: Metrics
    readiness: Readiness
    owner: str = ""
    key_id: str | None = None
    max_priority: int = MAX_PRIORITY


async def _service(request: Request) -> Service:  # not in a thread: health must answer when all threads wait
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
