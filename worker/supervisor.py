"""Runs one job after the other, each in a process of its own: renews its lease, stops it on request, and releases it.

The process itself stores the job's end. If it ends in any other way, the supervisor releases the job: to the next
attempt, or to its end when cancellation was requested or too many attempts crashed.
"""

import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
import time

from celery.utils.sysinfo import cpu_budget

from jobs import lifecycle, removal
from jobs.database import DatabaseFailure, Sessions, is_unavailable
from jobs.errors import LeaseLost
from jobs.settings import Settings
from jobs.sharing import AuditKey
from jobs.states import FINAL, JobState, ReleaseReason
from jobs.storage import open_storage
from jobs.tables import Job
from worker import memory
from worker.helping import Helping
from worker.outages import EXIT_STATUS, ask_database
from worker.process_group import ProcessGroup
from worker.warm_process import ForkedProcess, WarmProcess

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0  # after a lease could not be renewed
_OUTAGES = {status: outage for outage, status in EXIT_STATUS.items()}
_LOOK_SECONDS = 0.5  # how soon a request to cancel or to stop is noticed
# Exit statuses of a process that SIGTERM ended: before and after `job_process` handles the signal itself.
_ASKED_TO_STOP = frozenset({-signal.SIGTERM, 128 + signal.SIGTERM})


class Supervisor:
    """Runs waiting jobs, one at a time; `stop` may be called from a signal handler.

    Args:
        warm: its forks run the jobs; without it, each job's process imports its libraries itself.
    """

    def __init__(self, settings: Settings, sessions: Sessions, warm: WarmProcess | None = None) -> None:
        self._settings, self._sessions, self._warm = settings, sessions, warm
        # Hosts may share their names, and then numbers of processes too.
        self._name = f"{socket.gethostname()}:{secrets.token_hex(4)}:{os.getpid()}"
        self._stopping = threading.Event()
        self._turn = threading.Lock()  # held while a job runs: broker and sweep may both ask for the next one
        self._helping = Helping(
            settings,
            sessions,
            self._name,
            start=self._start_helper,
            claim_next=self._claim_next,
            is_stopping=self._stopping.is_set,
        )

    @property
    def idle(self) -> bool:
        """Return whether no job runs here."""
        return not self._turn.locked()

    def wait_for_stop(self, within_seconds: float) -> bool:
        """Wait until `stop` is called, for at most that many seconds, and return whether it was."""
        return self._stopping.wait(within_seconds)

    def stop(self) -> None:
        """Begin no further job; stop and release the running one."""
        self._stopping.set()

    def run_next(self) -> bool:
        """Run a waiting job to its end, and return whether there was one. Waits until no other job runs here.

        Where no job waits, this worker helps with the audits of others first, until a job waits or no batch is open.
        """
        with self._turn:
            job = None if self._stopping.is_set() else self._claim_next()
            if job is None and self._settings.help:
                job = self._helping.help_until_job_waits()
            if job is None:
                return False
            logger.info("job %s begins (%s, attempt %d)", job.id, job.kind, job.attempt)
            self._run_attempt(job.id, job.attempt)
            return True

    def _claim_next(self) -> Job | None:
        """Claim the job whose turn it is and return it; None when no job waits or the database is unavailable."""
        try:
            with self._sessions.begin() as session:
                lifecycle.release_unstarted(session, self._name, max_attempts=self._settings.max_attempts)
                return lifecycle.claim_next(
                    session, worker=self._name, lease_seconds=self._settings.lease_seconds, pool=self._settings.pool
                )
        except DatabaseFailure as failure:
            if not is_unavailable(failure):
                raise
            logger.warning("no job was claimed, the database is unavailable: %s", failure)
            return None

    def _run_attempt(self, job_id: str, attempt: int) -> None:
        kills_before = memory.count_kills()
        status = self._run_process(job_id, attempt)
        reason: ReleaseReason = "worker-lost"
        if self._stopping.is_set() or status in _ASKED_TO_STOP:
            reason = "worker-stopped"
        elif status in _OUTAGES:
            reason = _OUTAGES[status]
        elif status == -signal.SIGKILL and memory.count_kills() > kills_before:
            reason = "out-of-memory"
        self._release(job_id, attempt, reason, status)

    def _run_process(self, job_id: str, attempt: int) -> int:
        """Run the job to its end in a fork of the warm process, or without one in a new process; return the exit status."""
        environment = job_environment(self._settings)
        if self._warm is not None:
            fork = self._warm.client.start(
                "worker.job_process:main",
                job_id,
                attempt,
                environment=environment,
                process_name="faal-job",
                may_fork=True,
            )
            if (status := self._watch_to_end(fork, job_id, attempt)) is not None:
                return status
            logger.warning("job %s, attempt %d: the warm process has ended; a new process starts", job_id, attempt)
        command = [sys.executable, "-m", "worker.job_process", job_id, str(attempt), str(os.getpid())]
        status = self._watch_to_end(ProcessGroup(command, environment), job_id, attempt)
        assert status is not None, "only a fork may not start"  # noqa: S101
        return status

    def _start_helper(self, key: AuditKey, folder: str) -> ProcessGroup | ForkedProcess:
        """Start a process that computes batches of that audit, with copies of files in that folder."""
        environment, arguments = job_environment(self._settings), (*key, self._name, folder)
        if self._warm is not None:
            return self._warm.client.start(
                "worker.helper_process:main", *arguments, environment=environment, process_name="faal-helper"
            )
        command = [sys.executable, "-m", "worker.helper_process", *arguments, str(os.getpid())]
        return ProcessGroup(command, environment)

    def _watch_to_end(self, process: ProcessGroup | ForkedProcess, job_id: str, attempt: int) -> int | None:
        """Watch the process to its end, and return its exit status; None if it never started."""
        try:
            self._watch(process, job_id, attempt)
        finally:
            status = process.close()
        return status

    def _watch(self, process: ProcessGroup | ForkedProcess, job_id: str, attempt: int) -> None:
        """Renew the lease until the process has ended, by itself or because it had to."""
        renew_every = self._settings.lease_seconds / 3
        renew_at, kill_at = time.monotonic() + renew_every, math.inf
        while not process.has_ended(within_seconds=_LOOK_SECONDS):
            has_lease: bool | None = True
            if time.monotonic() >= renew_at:
                has_lease = self._renew(job_id, attempt)
                renew_at = time.monotonic() + (_RETRY_SECONDS if has_lease is None else renew_every)
            if time.monotonic() >= kill_at:
                process.kill()
            elif kill_at == math.inf and self._must_end(has_lease is not False, job_id, attempt):
                process.terminate()
                kill_at = time.monotonic() + self._settings.grace_seconds

    def _must_end(self, has_lease: bool, job_id: str, attempt: int) -> bool:
        if not has_lease:
            logger.info("job %s, attempt %d: the lease was lost; the process is stopped", job_id, attempt)
        return not has_lease or self._stopping.is_set() or self._stop_requested(job_id, attempt)

    def _stop_requested(self, job_id: str, attempt: int) -> bool:
        try:
            with self._sessions() as session:
                return lifecycle.is_stop_requested(session, job_id, attempt)
        except Exception as failure:  # noqa: BLE001 - as in `_renew`
            logger.warning("job %s: the database did not answer whether the job is to stop: %s", job_id, failure)
            return False

    def _renew(self, job_id: str, attempt: int) -> bool | None:
        """Renew the lease, and return whether this attempt still holds it; None if the database did not answer."""
        try:
            with self._sessions.begin() as session:
                return lifecycle.renew(session, job_id, attempt, lease_seconds=self._settings.lease_seconds)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the job continues: no other worker can claim it meanwhile
            logger.warning("job %s: the lease could not be renewed: %s", job_id, failure)
            return None

    def _release(self, job_id: str, attempt: int, reason: ReleaseReason, status: int) -> None:
        """Release the job unless its process stored its end. While the database is unavailable, wait for it until asked to stop.

        Then a sweep takes the job back when the database works again.
        """

        def release() -> JobState:
            with self._sessions.begin() as session:
                return lifecycle.release(
                    session, job_id, attempt, reason=reason, max_attempts=self._settings.max_attempts
                )

        try:
            state = ask_database(release, seconds=math.inf, is_stopping=self._stopping.is_set)
        except LeaseLost:
            logger.info("job %s, attempt %d: the process ended (exit status %d)", job_id, attempt, status)
        except Exception:
            logger.exception("job %s, attempt %d: could not be released (%s)", job_id, attempt, reason)
        else:
            logger.warning(
                "job %s, attempt %d: %s (exit status %d); the job is %s", job_id, attempt, reason, status, state
            )
            if state in FINAL:
                removal.try_collect(self._sessions, open_storage(self._settings))  # of an upload whose check ended so


def job_environment(settings: Settings) -> dict[str, str]:
    """Return the job's environment: this process's, and how many threads each numerical library may take.

    Without limits they would take all cores of the machine, however few of them a container may use.
    """
    environment = {name: value for name, value in os.environ.items() if name != "FAAL_SECRET"}  # which no job needs
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if settings.threads:
            environment[name] = str(settings.threads)
        else:
            environment.setdefault(name, str(cpu_budget().count))
    return environment
