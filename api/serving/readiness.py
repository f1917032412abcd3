"""Try the database, the storage and the broker, each within a deadline and by one request at a time."""

import asyncio
import secrets
from collections.abc import Callable, Mapping

import anyio
import anyio.to_thread

from jobs import artifacts
from jobs.database import SchemaTooNew, Sessions, is_up_to_date
from jobs.errors import FileLost, StoreUnavailable
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.storage import Storage

DEADLINE_SECONDS = 5.0  # below the time-outs of most load balancers


class Readiness:
    """The parts that the service depends on. Simultaneous requests share one trial of each part.

    Attributes:
        lost_files: number of lost stored files at the last trial of the database.
    """

    def __init__(self, settings: Settings, sessions: Sessions, storage: Storage, queue: Queue) -> None:
        self._settings, self._sessions = settings, sessions
        self.lost_files = 0
        self._parts: Mapping[str, _Part] = {
            "database": _Part(self._database_fault),
            "storage": _Part(lambda: _storage_fault(storage)),
            "broker": _Part(lambda: _broker_fault(queue)),
        }

    async def faults(self) -> dict[str, str]:
        """Return the fault of each part that does not work, by its name. Takes at most `DEADLINE_SECONDS`."""
        faults = await asyncio.gather(*(part.fault() for part in self._parts.values()))
        return {name: fault for name, fault in zip(self._parts, faults, strict=True) if fault is not None}

    def _database_fault(self) -> str | None:
        try:
            if not is_up_to_date(self._settings.database_url):
                return "its schema is not this version's; run the migrations"
            with self._sessions() as session:
                self.lost_files = artifacts.count_lost_files(session)
        except SchemaTooNew as newer:
            return str(newer)
        except Exception:  # noqa: BLE001 - whatever the driver raises, the database does not answer
            return "it does not answer"
        return None


class _Part:
    """A part and its trial, which runs in its own thread: all threads of requests may be waiting for this part."""

    def __init__(self, trial: Callable[[], str | None]) -> None:
        self._trial = trial
        self._running: asyncio.Task[str | None] | None = None

    async def fault(self) -> str | None:
        if self._running is None or self._running.done():
            thread = anyio.to_thread.run_sync(self._trial, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
            self._running = asyncio.ensure_future(thread)
        running = self._running  # another request may start the next trial meanwhile
        done, _ = await asyncio.wait([running], timeout=DEADLINE_SECONDS)
        return running.result() if done else f"it has not answered within {DEADLINE_SECONDS:g} s"


def _storage_fault(storage: Storage) -> str | None:
    """Store, read and remove a file: a disk can be read-only, or full."""
    try:
        sha256 = storage.put([b"ready ", secrets.token_bytes(16)], media_type="application/octet-stream").sha256
        try:
            storage.verify(sha256)
        finally:
            storage.remove(sha256)
    except (StoreUnavailable, FileLost) as fault:
        return fault.message
    except Exception:  # noqa: BLE001 - whatever the file system raises, nothing can be stored
        return "it cannot be written to"
    return None


def _broker_fault(queue: Queue) -> str | None:
    return None if queue.takes_messages() else "it takes no messages; idle workers still look for jobs by themselves"
