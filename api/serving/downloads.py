"""Files on their way out: each is read and compared with its digest before any of it is sent."""

import os
import time
from dataclasses import dataclass, field

from api.serving.slots import Slots
from jobs.storage import Storage

REMEMBERED_SECONDS = 300.0  # a client that fetches a file range by range asks many times
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class Downloads:
    """Verifications of files, of which each holds a thread, shared out among owners."""

    slots: Slots
    _verified: dict[tuple[str, int, int, int], float] = field(default_factory=dict)

    def verified(self, storage: Storage, sha256: str, owner: str) -> os.stat_result:
        """Return size and time of a file that is whole, or was a short while ago and has not been written to since.

        Raises: ServiceBusy, FileLost, StoreUnavailable.
        """
        with self.slots.of(owner):
            try:
                status = storage.status(sha256)
            except FileNotFoundError:
                return storage.verified(sha256)  # which says that it is lost
            file = (sha256, status.st_size, status.st_mtime_ns, status.st_ino)
            if self._verified.get(file, 0.0) < time.monotonic():
                status = storage.verified(sha256)
                if len(self._verified) >= _MOST_REMEMBERED:
                    self._verified.clear()
                self._verified[file] = time.monotonic() + REMEMBERED_SECONDS
            return status
