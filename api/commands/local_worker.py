"""A worker process that the web service starts, for a machine that runs both with one command."""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Self

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 3.0  # before a worker that died is restarted
STOP_SECONDS = 30.0  # for a worker to stop its job and return it to the queue


class WorkerProcess:
    """Runs `python -m worker` in this environment during a `with` block: restarts it when it dies, stops it at the end.

    The worker has its own process session, so Ctrl-C does not reach it. This class stops it once, after the last request.
    """

    def __init__(
        self, command: Sequence[str] = (sys.executable, "-m", "worker"), *, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._command = command
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="worker-watcher")

    def __enter__(self) -> Self:
        """Start the worker."""
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the worker, and wait until it has ended."""
        self._stopping.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            with subprocess.Popen(self._command, start_new_session=True) as process:  # noqa: S603 - our own module
                logger.info("worker %d started", process.pid)
                while process.poll() is None and not self._stopping.wait(0.2):
                    pass
                if process.poll() is None:
                    _stop(process)
                else:
                    logger.warning("worker %d ended with status %d and is restarted", process.pid, process.returncode)
            self._stopping.wait(self._pause_seconds)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("worker %d did not stop within %.0f s and is killed", process.pid, STOP_SECONDS)
        process.kill()
