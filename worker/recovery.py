"""The sweep: takes jobs back from dead workers, runs plans, lets an idle worker look for jobs, and removes unneeded files.

A message only makes a worker look sooner. So a lost message, an unavailable broker or a dead worker costs no more than the
time between two sweeps.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Self

from jobs import lifecycle, partial_uploads, plan_runs, queries, removal, webhooks
from jobs.database import DatabaseFailure, Sessions
from jobs.errors import StoreUnavailable
from jobs.settings import Settings
from jobs.states import FINAL, JobState
from jobs.storage import FolderStorage, Storage, open_storage

logger = logging.getLogger(__name__)

SILENT_SECONDS = 86_400.0  # after which untouched files and uploads are removed: their process or client has ended
COLLECT_SECONDS = 3600.0
_LATE = 1 / 6  # of a lease's time, that a sweep may come late; workers renew in a third of it
_JOB = re.compile(r"job_[0-9a-f]{32}")


class Sweeper:
    """A thread that sweeps at once and then every `sweep_seconds`, until the `with` block ends.

    It sweeps at least once in the time of a lease: an outage as long as that must not pass between two sweeps unseen.

    Args:
        after_sweep: called in each sweep once jobs were taken back and plans have submitted theirs.
    """

    def __init__(self, settings: Settings, sessions: Sessions, after_sweep: Callable[[], None]) -> None:
        self._settings, self._sessions, self._after_sweep = settings, sessions, after_sweep
        self._storage = open_storage(settings)
        self._seconds = min(settings.sweep_seconds, settings.lease_seconds)
        self._collect_at = 0.0
        self._reached_at = -math.inf  # when a sweep has last reached the database
        self._reached_since = math.inf  # since when every sweep has, in its time
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_sweeping, name="sweep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(self._settings.grace_seconds)

    def _keep_sweeping(self) -> None:
        while not self._ending.is_set():
            try:
                self.sweep()
            except StoreUnavailable as failure:
                logger.warning("the sweep was not completed: %s", failure.message)
            except DatabaseFailure as failure:
                logger.warning("the sweep was not completed: %s", failure)
            except Exception:
                logger.exception("the sweep failed; the next one is in %s s", self._seconds)
            self._ending.wait(self._seconds)

    def sweep(self) -> None:
        """Take back jobs whose lease has expired, run plans, let an idle worker look for jobs, and remove what is not needed.

        After an outage of the database leases have expired because no worker could renew them. So a job is taken back only
        by a worker whose sweeps have reached the database, each in its time, for as long as a whole lease: by then every living
        worker has renewed. A sweep that comes late, as after a frozen database or worker, may have missed an outage.
        """
        lease_seconds = self._settings.lease_seconds
        with self._sessions.begin() as session:
            lifecycle.fail_overdue(session)
            now = time.monotonic()
            if now - self._reached_at > self._seconds + _LATE * lease_seconds:
                self._reached_since = now
            self._reached_at = now
            if now - self._reached_since >= lease_seconds:
                for job_id in lifecycle.take_back(session, max_attempts=self._settings.max_attempts):
                    logger.warning("job %s is taken back: its worker did not renew the lease", job_id)
                    self._collect_at = now  # it may have been the last attempt of the check of an upload
        plan_runs.advance(self._sessions, self._settings)
        self._after_sweep()
        self._clear_checkpoints()
        self._storage.remove_unfinished(SILENT_SECONDS)
        if time.monotonic() >= self._collect_at:
            self._collect_at = time.monotonic() + COLLECT_SECONDS
            self._collect()

    def _collect(self) -> None:
        """Remove what nobody needs any more: jobs after the days of `FAAL_KEEP_DAYS`, and files without a reference."""
        jobs = removal.remove_old_jobs(self._sessions, self._settings.keep_days) if self._settings.keep_days else 0
        partial_uploads.remove_abandoned(self._sessions, SILENT_SECONDS)
        with self._sessions.begin() as session:
            webhooks.remove_old_messages(session)
        files = removal.collect(self._sessions, self._storage)
        files += removal.collect_strays(self._sessions, self._storage, SILENT_SECONDS)
        if jobs or files:
            logger.info("%d old jobs and %d files were removed", jobs, files)

    def _clear_checkpoints(self) -> None:
        """Remove the checkpoints of jobs that have ended, or were deleted some time ago, here and in storage."""
        local = self._settings.checkpoints_dir
        folders = {folder.name: folder for folder in local.iterdir()} if local.is_dir() else {}
        stored = self._storage.list_jobs()
        with self._sessions() as session:
            states = queries.find_states(session, {*folders, *stored})
        for job_id, folder in folders.items():
            _clear(job_id, states.get(job_id), partial(FolderStorage, folder))
        for job_id in stored:
            _clear(job_id, states.get(job_id), partial(self._storage.for_job, job_id))


def _clear(job_id: str, state: JobState | None, open_checkpoints: Callable[[], Storage]) -> None:
    """Remove the checkpoint of a job that has ended, or that was deleted and whose files are older than a day."""
    deleted = state is None and _JOB.fullmatch(job_id) is not None
    if state in FINAL or (deleted and open_checkpoints().is_untouched(SILENT_SECONDS)):
        open_checkpoints().clear()
