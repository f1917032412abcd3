"""A thread that claims waiting jobs without the broker, whose messages only make a worker look sooner."""

import logging
import threading
from typing import Self

from worker.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Claimer:
    """A thread in which an idle worker runs waiting jobs, one after the other, each time it is woken.

    The thread lives as long as the `with` block, since the kernel ends a job's process together with the thread that
    started it.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._wake_requested, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._claim, name="claim", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._wake_requested.set()
        self._thread.join()  # the supervisor was stopped, so its job ends within FAAL_GRACE_SECONDS

    def wake(self) -> None:
        """Let the thread look for waiting jobs now."""
        self._wake_requested.set()

    def _claim(self) -> None:
        while True:
            self._wake_requested.wait()
            self._wake_requested.clear()
            if self._ending:
                return
            try:
                while self._supervisor.idle and self._supervisor.run_next():
                    pass
            except Exception:
                logger.exception("no job was claimed; the next sweep tries again")
