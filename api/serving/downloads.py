"""Downloads: each file is read and compared with its digest before any of it is sent."""

import os
import time
from dataclasses import dataclass, field

from api.serving.slots import Slots
from jobs.storage import Storage

REMEMBERED_SECONDS = 300.0  # a client that fetches a file in ranges sends many requests
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class Downloads:
    """Verifies files for download. Each verification holds a thread, so owners share a number of slots."""

    slots: Slots
    _verified: dict[tuple[str, int, int, int], float] = field(default_factory=dict)

    def verify(self, storage: Storage, sha256: str, owner: str) -> os.stat_result:
        """Verify a file, unless it was verified recently and has not changed since, and return its size and time.

        Raises: ServiceBusy, FileLost, StoreUnavailable.
        """
        with self.slots.for_owner(owner):
            try:
                status = storage.stat(sha256)
            except FileNotFoundError:
                return storage.verify(sha256)  # raises FileLost
            file = (sha256, status.st_size, status.st_mtime_ns, status.st_ino)
            if self._verified.get(file, 0.0) < time.monotonic():
                status = storage.verify(sha256)
                if len(self._verified) >= _MOST_REMEMBERED:
                    self._verified.clear()
                self._verified[file] = time.monotonic() + REMEMBERED_SECONDS
            return status
