"""Whether the database, the storage and the broker work: each is tried, within a deadline, by one request at a time."""

import asyncio
import secrets
from collections.abc import Callable, Mapping

import anyio
import anyio.to_thread

from jobs.database import SchemaTooNew, up_to_date
from jobs.errors import FileLost, StoreUnavailable
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.storage import Storage

DEADLINE_SECONDS = 5.0  # below the time-outs of most load balancers


class Readiness:
    """The parts that the service depends on. Requests that ask at the same time share one trial of each part."""

    def __init__(self, settings: Settings, storage: Storage, queue: Queue) -> None:
        self._parts: Mapping[str, _Part] = {
            "database": _Part(lambda: _database_fault(settings)),
            "storage": _Part(lambda: _storage_fault(storage)),
            "broker": _Part(lambda: _broker_fault(queue)),
        }

    async def faults(self) -> dict[str, str]:
        """Return what is wrong with each part that does not work; takes at most `DEADLINE_SECONDS`."""
        faults = await asyncio.gather(*(part.fault() for part in self._parts.values()))
        return {name: fault for name, fault in zip(self._parts, faults, strict=True) if fault is not None}


class _Part:
    """A part and its trial, which runs in a thread of its own: the threads of requests may all be waiting for this part."""

    def __init__(self, trial: Callable[[], str | None]) -> None:
        self._trial = trial
        self._running: asyncio.Task[str | None] | None = None

    async def fault(self) -> str | None:
        if self._running is None or self._running.done():
            thread = anyio.to_thread.run_sync(self._trial, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
            self._running = asyncio.ensure_future(thread)
        done, _ = await asyncio.wait([self._running], timeout=DEADLINE_SECONDS)
        return self._running.result() if done else f"it has not answered within {DEADLINE_SECONDS:g} s"


def _database_fault(settings: Settings) -> str | None:
    try:
        if up_to_date(settings.database_url):
            return None
    except SchemaTooNew as newer:
        return str(newer)
    except Exception:  # noqa: BLE001 - whatever the driver raises, the database does not answer
        return "it does not answer"
    return "its schema is not this version's; run the migrations"


def _storage_fault(storage: Storage) -> str | None:
    """Store, read and remove a file: a disk can be read-only, or full."""
    try:
        sha256 = storage.put([b"ready ", secrets.token_bytes(16)], media_type="application/octet-stream").sha256
        try:
            storage.verified(sha256)
        finally:
            storage.remove(sha256)
    except (StoreUnavailable, FileLost) as fault:
        return fault.message
    except Exception:  # noqa: BLE001 - whatever the file system raises, nothing can be stored
        return "it cannot be written to"
    return None


def _broker_fault(queue: Queue) -> str | None:
    return None if queue.takes_messages() else "it takes no messages; idle workers still look for jobs by themselves"
