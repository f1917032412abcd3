"""Runs one job after the other, each in a fresh process: keeps its lease, stops it when told, gives back what it left.

The process settles the job itself when it comes to an end. Whatever else happens to it, the job is released here: to
the next attempt, or to its end when cancellation was asked for or too many attempts crashed.
"""

import logging
import math
import os
import signal
import socket
import sys
import threading
import time

from celery.utils.sysinfo import cpu_budget

from jobs import lifecycle
from jobs.database import Sessions
from jobs.errors import LeaseLost
from jobs.settings import Settings
from jobs.states import ReleaseReason
from worker import memory
from worker.process_group import ProcessGroup

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # how soon a request to cancel or to stop is noticed
_ASKED_TO_STOP = frozenset(
    {-signal.SIGTERM, 128 + signal.SIGTERM}
)  # exit statuses before and after job_process takes it over


class Supervisor:
    """Runs the jobs it is told of, one at a time; `stop` may be called from a signal handler."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings, self._sessions = settings, sessions
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()
        self._busy = False

    @property
    def idle(self) -> bool:
        """Whether a message that is rung now would be taken at once."""
        return not self._busy

    def stop(self) -> None:
        """No further job is begun, and the running one is stopped and released."""
        self._stopping.set()

    def run_next(self) -> None:
        """A waiting job, if there was one, has run here when this returns."""
        if self._stopping.is_set():
            return
        with self._sessions.begin() as session:
            job = lifecycle.claim_next(
                session, worker=self._name, lease_seconds=self._settings.lease_seconds, pool=self._settings.pool
            )
        if job is None:
            logger.info("no job waits")
            return
        logger.info("job %s begins (%s, attempt %d)", job.id, job.kind, job.attempt)
        self._busy = True
        try:
            self._attempt(job.id, job.attempt)
        finally:
            self._busy = False

    def _attempt(self, job_id: str, attempt: int) -> None:
        kills_before = memory.kills()
        process = ProcessGroup(
            [sys.executable, "-m", "worker.job_process", job_id, str(attempt), str(os.getpid())],
            _environment(self._settings),
        )
        try:
            self._watch(process, job_id, attempt)
        finally:
            status = process.close()
        reason: ReleaseReason = "worker-lost"
        if self._stopping.is_set() or status in _ASKED_TO_STOP:
            reason = "worker-stopped"
        elif status == os.EX_TEMPFAIL:
            reason = "store-unavailable"
        elif status == -signal.SIGKILL and memory.kills() > kills_before:
            reason = "out-of-memory"
        self._give_back(job_id, attempt, reason, status)

    def _watch(self, process: ProcessGroup, job_id: str, attempt: int) -> None:
        """Returns when the process has ended, by itself or because it had to. The lease is kept until then."""
        renew_every = self._settings.lease_seconds / 3
        renew_at, kill_at = time.monotonic() + renew_every, math.inf
        while not process.ended(within_seconds=_LOOK_SECONDS):
            ours = True
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + renew_every
                ours = self._renewed(job_id, attempt)
            if time.monotonic() >= kill_at:
                process.kill()
            elif kill_at == math.inf and self._must_end(ours, job_id, attempt):
                process.terminate()
                kill_at = time.monotonic() + self._settings.grace_seconds

    def _must_end(self, ours: bool, job_id: str, attempt: int) -> bool:
        if not ours:
            logger.info("job %s, attempt %d: ended or given to another; its process is stopped", job_id, attempt)
        return not ours or self._stopping.is_set() or self._stop_requested(job_id, attempt)

    def _stop_requested(self, job_id: str, attempt: int) -> bool:
        try:
            with self._sessions() as session:
                return lifecycle.stop_requested(session, job_id, attempt)
        except Exception:
            logger.exception("job %s: the database did not say whether it shall stop", job_id)
            return False

    def _renewed(self, job_id: str, attempt: int) -> bool:
        """Whether the job is still ours as far as is known: while the database is away nobody can take it over."""
        try:
            with self._sessions.begin() as session:
                return lifecycle.renew(session, job_id, attempt, lease_seconds=self._settings.lease_seconds)
        except Exception:
            logger.exception("job %s: the lease could not be renewed", job_id)
            return True

    def _give_back(self, job_id: str, attempt: int, reason: ReleaseReason, status: int) -> None:
        """The job is released unless its process settled it. Where that fails, a sweep does it after the lease."""
        try:
            with self._sessions.begin() as session:
                state = lifecycle.release(
                    session, job_id, attempt, reason=reason, max_attempts=self._settings.max_attempts
                )
        except LeaseLost:
            logger.info("job %s, attempt %d: ended (exit status %d)", job_id, attempt, status)
        except Exception:
            logger.exception("job %s, attempt %d: could not be released (%s)", job_id, attempt, reason)
        else:
            logger.warning("job %s, attempt %d: %s (exit status %d); it is %s", job_id, attempt, reason, status, state)


def _environment(settings: Settings) -> dict[str, str]:
    """The job's environment: this process's, and how many threads each numerical library may take.

    Left alone, they would take all cores of the machine, however few of them a container may use.
    """
    environment = {name: value for name, value in os.environ.items() if name != "FAAL_SECRET"}  # which no job needs
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if settings.threads:
            environment[name] = str(settings.threads)
        else:
            environment.setdefault(name, str(cpu_budget().count))
    return environment
