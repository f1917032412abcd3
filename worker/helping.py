"""Lets an idle worker compute batches of the audits that other workers' jobs share, until a job waits."""

import logging
import math
import os
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from jobs import sharing, turns
from jobs.database import DatabaseFailure, Sessions, is_unavailable
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.sharing import AuditKey, OpenAudit
from jobs.tables import Job
from worker.process_group import ProcessGroup
from worker.warm_process import ForkedProcess

logger = logging.getLogger(__name__)

OTHER_ENVIRONMENT, OTHER_WORK = os.EX_CONFIG, os.EX_DATAERR
"""Exit statuses of a process that cannot help: with no audit of that environment, or not with this audit."""

Answer = TypeVar("Answer")
_LOOK_SECONDS = 0.5  # how soon a waiting job is noticed
_TURN_SECONDS = 60.0  # after which a helper looks whether another audit needs it more
_SHORT_SECONDS = 5.0  # of help, after less than which the worker does not help with the same audit again for as long
_FAILED_SECONDS = 120.0  # for which a worker does not help again with an audit whose helper failed


class Helping:
    """Helps one audit at a time, in a process of its own.

    Args:
        worker: name of the worker.
        start: starts the process that helps with an audit, with a folder for its files.
        claim_next: claims the job whose turn it is.
        is_stopping: whether the worker is to stop.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        worker: str,
        *,
        start: Callable[[AuditKey, str], ProcessGroup | ForkedProcess],
        claim_next: Callable[[], Job | None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings, self._sessions, self._worker = settings, sessions, worker
        self._start, self._claim_next, self._is_stopping = start, claim_next, is_stopping
        self._queue = Queue(settings)
        self._refused_environments: set[str] = set()
        self._refused_audits: dict[str, float] = {}  # identities, and until when on the monotonic clock

    def help_until_job_waits(self) -> Job | None:
        """Run helping processes as long as a batch is open; return the job that was claimed meanwhile, or None."""
        while not self._is_stopping() and (audit := self._find_audit()) is not None:
            job = self._help(audit)
            if job is not None:
                return job
        return None

    def _find_audit(self, *, instead: bool = False) -> OpenAudit | None:
        """Return the audit to help with; with `instead`, as if this worker did not help yet."""
        return self._ask(
            lambda session: sharing.find_audit_to_help(
                session,
                pool=self._settings.pool,
                refused_environments=self._refused_environments,
                refused_audits=[one for one, until in self._refused_audits.items() if until > time.monotonic()],
                excluded_worker=self._worker if instead else None,
            ),
            None,
        )

    def _help(self, audit: OpenAudit) -> Job | None:
        """Run a process that helps with the audit, and return a job that was claimed meanwhile."""
        logger.info("this worker helps with job %s", audit.key.job_id)
        self._queue.ring(audit.key.job_id, audit.pool)  # for the next idle worker, which rings for one more
        job_folder = self._settings.checkpoints_dir / audit.key.job_id  # which a sweep removes after the job's end
        job_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        start = time.monotonic()
        with TemporaryDirectory(prefix="helper-", dir=job_folder) as folder:
            process = self._start(audit.key, folder)
            try:
                job = self._watch(process, audit.key)
                has_ended = process.has_ended()
            finally:
                status = process.close()
                self._change(lambda session: sharing.release_batches(session, self._worker))
        if has_ended and (status != 0 or time.monotonic() < start + _SHORT_SECONDS):
            self._refuse(audit, status)
        return job

    def _watch(self, process: ProcessGroup | ForkedProcess, key: AuditKey) -> Job | None:
        """Renew the leases of the batches until the process has ended or is no longer wanted, or a job was claimed."""
        lease_seconds = self._settings.lease_seconds
        renew_every = lease_seconds / 3
        renew_at, turn_at = time.monotonic() + renew_every, time.monotonic() + _TURN_SECONDS
        while not process.has_ended(within_seconds=_LOOK_SECONDS):
            wanted, job_waits = self._ask(
                lambda session: (sharing.is_wanted(session, key), turns.is_job_waiting(session, self._settings.pool)),
                (True, False),
            )
            if self._is_stopping() or not wanted:
                return None
            if job_waits and (job := self._claim_next()) is not None:
                return job
            if time.monotonic() >= renew_at and self._change(
                lambda session: sharing.renew_batches(session, self._worker, lease_seconds=lease_seconds)
            ):
                renew_at = time.monotonic() + renew_every
            if time.monotonic() >= turn_at:
                other = self._find_audit(instead=True)
                if other is not None and other.key != key:
                    return None
                turn_at = time.monotonic() + _TURN_SECONDS
        return None

    def _refuse(self, audit: OpenAudit, status: int | None) -> None:
        """Remember what this worker cannot help with, for ever or for a while; the leader computes what it leaves."""
        logger.warning("this worker stops helping with job %s (exit status %s)", audit.key.job_id, status)
        if status == OTHER_ENVIRONMENT:
            self._refused_environments.add(audit.environment)
        else:
            seconds = math.inf if status == OTHER_WORK else _SHORT_SECONDS if status == 0 else _FAILED_SECONDS
            self._refused_audits[audit.key.identity] = time.monotonic() + seconds

    def _ask(self, question: Callable[[Any], Answer], otherwise: Answer) -> Answer:
        """Return the answer of the database; `otherwise` while it is unavailable."""
        try:
            with self._sessions() as session:
                return question(session)
        except DatabaseFailure as failure:
            return self._log(failure, otherwise)

    def _change(self, change: Callable[[Any], None]) -> bool:
        """Change the database, and return whether it was available; otherwise leases run out by themselves."""
        try:
            with self._sessions.begin() as session:
                change(session)
        except DatabaseFailure as failure:
            return self._log(failure, False)
        return True

    @staticmethod
    def _log(failure: DatabaseFailure, otherwise: Answer) -> Answer:
        if not is_unavailable(failure):
            raise failure
        logger.warning("this worker helps on while the database is unavailable: %s", failure)
        return otherwise
