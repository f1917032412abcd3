"""A message broker without a server: a folder with one file a message, for workers of one machine.

kombu has such a transport, but a reader can meet its messages half-written (2 in 2,000 with a busy reader), and two
readers can meet in one message where the temporary folder is another disk; either ends a Celery worker. Here a message
appears and is taken by renaming, which happens to one reader only.
"""

import json
import time
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import virtual

_LONGEST_WAIT_SECONDS = 0.1  # for a message; Celery would wait for two seconds, and twice before it stops


class Channel(virtual.Channel):
    """Puts messages into the folder of the transport's option `folder`, and takes them from it, oldest first."""

    @property
    def _folder(self) -> Path:
        return Path(self.connection.client.transport_options["folder"])

    def _messages(self, queue: str) -> list[Path]:
        return sorted(self._folder.glob(f"*.{queue}.message"))

    def _put(self, queue: str, message: dict[str, Any], **_options: object) -> None:
        path = self._folder / f"{time.time_ns()}-{uuid4().hex}.{queue}.message"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(message))
        partial.rename(path)

    def _get(self, queue: str, timeout: float | None = None) -> object:
        for path in self._messages(queue):
            claimed_path = path.with_suffix(".taken")
            try:
                path.rename(claimed_path)
            except FileNotFoundError:  # another worker was faster
                continue
            message = claimed_path.read_text()
            claimed_path.unlink()
            return json.loads(message)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _purge(self, queue: str) -> int:
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)


class Transport(virtual.Transport):
    """The transport that kombu makes channels with."""

    Channel = Channel
    driver_type = "folder"
    driver_name = "folder"
    polling_interval = 0.05  # seconds; a job waits half as long on average, and a look takes a tenth of a millisecond

    def drain_events(self, connection: object, timeout: float | None = None, **_: object) -> None:
        """Deliver the next message. Wait at most a tenth of a second for it: Celery asks between two calls whether to stop.

        Raises: TimeoutError where none came.
        """
        longest = _LONGEST_WAIT_SECONDS if timeout is None else min(timeout, _LONGEST_WAIT_SECONDS)
        super().drain_events(connection, longest)  # type: ignore[no-untyped-call]

    def driver_version(self) -> str:
        """Return a placeholder, since there is no driver."""
        return "n/a"
