"""The sweep: rings jobs that nobody came for, takes jobs back from dead workers, clears away what the dead and ended left.

A message is only a doorbell, so this is all it takes to survive a lost one, a broker that was away and a dead worker.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from functools import partial

from jobs import lifecycle, partial_uploads, queries, removal, webhooks
from jobs.database import Sessions
from jobs.errors import StoreUnavailable
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.states import FINAL, JobState
from jobs.storage import FolderStorage, Storage, open_storage

logger = logging.getLogger(__name__)

RING_WHEN_BUSY_SECONDS = 3600.0
SILENT_SECONDS = 86_400.0  # after which what nobody has touched is forgotten: their process, or their client, is gone
COLLECT_SECONDS = 3600.0
_JOB = re.compile(r"job_[0-9a-f]{32}")


class Sweeper:
    """A thread that sweeps at once and then every `sweep_seconds`, for as long as the `with` block lasts."""

    def __init__(self, settings: Settings, sessions: Sessions, idle: Callable[[], bool]) -> None:
        self._settings, self._sessions, self._idle = settings, sessions, idle
        self._queue, self._storage = Queue(settings), open_storage(settings)
        self._collect_at = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_sweeping, name="sweep", daemon=True)

    def __enter__(self) -> "Sweeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(self._settings.grace_seconds)

    def _keep_sweeping(self) -> None:
        while not self._ending.is_set():
            try:
                self.sweep()
            except StoreUnavailable as away:
                logger.warning("the sweep was not completed: %s", away.message)
            except Exception:
                logger.exception("the sweep failed; the next one is in %s s", self._settings.sweep_seconds)
            self._ending.wait(self._settings.sweep_seconds)

    def sweep(self) -> None:
        """Jobs that wait are rung and expired ones taken back, once.

        A busy worker leaves the ringing to idle ones: where all are busy, more messages would only pile up. A broker
        that takes no message is tried again by a later sweep.
        """
        ring_after = self._settings.sweep_seconds if self._idle() else RING_WHEN_BUSY_SECONDS
        with self._sessions.begin() as session:
            waiting = lifecycle.overdue(
                session, ring_after=ring_after, max_attempts=self._settings.max_attempts, pool=self._settings.pool
            )
        for job_id, pool in waiting.items():
            logger.info("job %s is rung again", job_id)
            if not self._queue.ring(job_id, pool):
                break
        self._clear_checkpoints()
        self._storage.forget_broken_off(SILENT_SECONDS)
        if time.monotonic() >= self._collect_at:
            self._collect_at = time.monotonic() + COLLECT_SECONDS
            self._collect()

    def _collect(self) -> None:
        """What nobody needs any more is removed: jobs after the days they are kept, and files without a reference."""
        jobs = removal.remove_old_jobs(self._sessions, self._settings.keep_days) if self._settings.keep_days else 0
        partial_uploads.remove_silent(self._sessions, SILENT_SECONDS)
        with self._sessions.begin() as session:
            webhooks.forget_old(session)
        files = removal.collect(self._sessions, self._storage)
        files += removal.collect_strays(self._sessions, self._storage, SILENT_SECONDS)
        if jobs or files:
            logger.info("%d old jobs and %d files were removed", jobs, files)

    def _clear_checkpoints(self) -> None:
        """What jobs kept that have ended, or were deleted some time ago, is removed, here and in storage."""
        here = self._settings.checkpoints_dir
        folders = {folder.name: folder for folder in here.iterdir()} if here.is_dir() else {}
        stored = self._storage.jobs()
        with self._sessions() as session:
            states = queries.states(session, {*folders, *stored})
        for job_id, folder in folders.items():
            _clear(job_id, states.get(job_id), partial(FolderStorage, folder))
        for job_id in stored:
            _clear(job_id, states.get(job_id), partial(self._storage.of_job, job_id))


def _clear(job_id: str, state: JobState | None, kept: Callable[[], Storage]) -> None:
    """Nothing. Afterwards nothing is left of what the job kept, if it has ended, or is not there and has not been for long."""
    deleted = state is None and _JOB.fullmatch(job_id) is not None
    if state in FINAL or (deleted and kept().silent(SILENT_SECONDS)):
        kept().clear()
