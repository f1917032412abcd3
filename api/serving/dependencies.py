"""The dependencies of routes: database, storage, queue and settings. api/access restricts them to the owner."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from faal_core.evidence.keys import Signer

THREADS = 100  # in the pool that routes run in
UPLOADS = 30  # in parallel, of all owners; each holds a thread while its client sends
DOWNLOADS = 10  # verified in parallel, of all owners; each holds a thread while its file is read
PACKS = 3  # written in parallel, of all owners; each holds a thread and up to 225 MB of memory
STREAMS = 50  # event streams in parallel, of all owners; each holds a thread most of the time


@dataclass(frozen=True, slots=True)
class Service:
    """The resources of one process of the web service. With an `owner`, `sessions` show only the owner's rows.

    Args:
        signer: signs evidence packs; None where the settings name no key.
    """

    settings: Settings
    sessions: Sessions
    storage: Storage
    queue: Queue
    uploads: Slots
    downloads: Downloads
    packs: Slots
    streams: Slots
    rates: Rates
    pings: Rates  # of webhooks
    metrics: Metrics
    readiness: Readiness
    signer: "Signer | None" = None
    owner: str = ""
    key_id: str | None = None
    key_name: str | None = None
    max_priority: int = MAX_PRIORITY


async def _service(request: Request) -> Service:  # async: health checks must answer even if all threads are busy
    service: Service = request.app.state.service
    return service


_PRINTABLE = r"^[\x21-\x7e]+$"

ServiceDep = Annotated[Service, Depends(_service)]
Id = Annotated[str, Path(alias="id", pattern=_PRINTABLE, max_length=100)]
LinkId = Annotated[str, Path(alias="link", pattern=_PRINTABLE, max_length=100, description="id of the link")]
Number = Annotated[int, Path(ge=0, le=1000, description="index of the candidate in the report's `candidates`, from 0")]
After = Annotated[str | None, Query(pattern=_PRINTABLE, max_length=100, description="`last_id` of the previous page")]
Limit = Annotated[int, Query(ge=1, le=100, description="maximum number of items in the page")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="unique name of this request: a repeated request with the same key returns the first answer and creates "
        "nothing new",
    ),
]
