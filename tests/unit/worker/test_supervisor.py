"""A supervisor keeps its job for as long as the job's process lives, and stops the process when it must."""

import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from celery.utils.sysinfo import cpu_budget

from jobs import control, lifecycle, queries
from jobs.database import open_database
from jobs.settings import Settings
from jobs.states import JobState
from worker import supervisor as supervision
from worker.outages import EXIT_STATUS
from worker.process_group import ProcessGroup
from worker.supervisor import Supervisor
from worker.warm_process import WarmProcess

BRIEF = "import time; time.sleep(2)"
LONG = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {LONG}"


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return settings of a site with short times."""
    return Settings(data_dir=tmp_path / "faal-data", lease_seconds=1.5, sweep_seconds=1, grace_seconds=2)


@pytest.fixture
def supervisor(settings, sessions) -> Supervisor:
    """Return a supervisor that has no process yet."""
    return Supervisor(settings, sessions)


def process(code: str) -> ProcessGroup:
    """Return a process that runs `code` in place of a job."""
    return ProcessGroup([sys.executable, "-c", code], dict(os.environ))


def watch(supervisor: Supervisor, job_id: str, code: str) -> int:
    """Return the exit status of such a process after it was watched."""
    running_process = process(code)
    try:
        supervisor._watch(running_process, job_id, 1)
    finally:
        status = running_process.close()
    return status


def lease_end(sessions, job_id: str) -> datetime:
    """Return when the job's lease ends; until then no sweep requeues it."""
    with sessions() as session:
        expires_at = queries.find_job(session, job_id).lease_expires_at
    assert expires_at is not None
    return expires_at


def test_lease_is_kept(supervisor, sessions, running_job, settings):
    """While the process runs the lease is renewed, so that a process may run longer than a lease lasts."""
    start = datetime.now(UTC)
    with sessions.begin() as session:
        lifecycle.renew(session, running_job, 1, lease_seconds=settings.lease_seconds)
    assert watch(supervisor, running_job, BRIEF) == 0
    assert lease_end(sessions, running_job) >= start + timedelta(seconds=2)


def test_process_ends_when_the_worker_stops(supervisor, running_job):
    """A supervisor that was stopped asks its process to end."""
    supervisor.stop()
    assert watch(supervisor, running_job, LONG) == -signal.SIGTERM


def test_process_ends_when_its_job_is_cancelled(supervisor, sessions, running_job):
    """After a request to cancel, the process is asked to end."""
    with sessions.begin() as session:
        control.cancel(session, running_job)
    assert watch(supervisor, running_job, LONG) == -signal.SIGTERM


def test_process_ends_when_the_lease_is_lost(supervisor, sessions, running_job):
    """When the lease is lost, the process is asked to end."""
    with sessions.begin() as session:
        lifecycle.release(session, running_job, 1, reason="worker-lost")
    assert watch(supervisor, running_job, LONG) == -signal.SIGTERM


def test_stubborn_process_is_killed_and_its_job_kept_until_then(supervisor, sessions, running_job, settings, capfd):
    """A process that does not obey is killed after the grace time, during which no other worker gets the job."""
    running_process = process(STUBBORN)
    while not capfd.readouterr().out:
        time.sleep(0.01)
    supervisor.stop()
    start, start_time = time.monotonic(), datetime.now(UTC)
    with sessions.begin() as session:
        lifecycle.renew(session, running_job, 1, lease_seconds=settings.lease_seconds)
    supervisor._watch(running_process, running_job, 1)
    assert time.monotonic() - start >= settings.grace_seconds
    assert running_process.close() == -signal.SIGKILL
    assert lease_end(sessions, running_job) >= start_time + timedelta(seconds=settings.grace_seconds)


def test_absent_database_ends_nothing(settings, running_job, tmp_path):
    """During an outage of the database the process continues."""
    lost = Supervisor(settings, open_database(f"sqlite:///{tmp_path / 'empty.db'}", pooled=False))
    assert watch(lost, running_job, BRIEF) == 0


def test_taken_job_is_left_alone(supervisor, sessions, running_job):
    """A message about a job that is running elsewhere changes nothing and starts nothing."""
    supervisor.run_next()
    with sessions() as session:
        job = queries.find_job(session, running_job)
    assert (job.state, job.attempt, job.lease_owner) == (JobState.RUNNING, 1, "here:1")


def test_stopped_supervisor_takes_no_job(supervisor, sessions, queued_job):
    """Once it was stopped, a supervisor leaves the queue to others."""
    supervisor.stop()
    supervisor.run_next()
    with sessions() as session:
        assert queries.find_job(session, queued_job).attempt == 0


@pytest.mark.parametrize(("outage", "status"), EXIT_STATUS.items())
def test_an_outage_gives_the_job_back(supervisor, sessions, queued_job, monkeypatch, outage, status):
    """A process that ends because of an outage gives its job back for that reason, and that is no crash."""
    monkeypatch.setattr(supervision, "ProcessGroup", lambda *_: process(f"import sys; sys.exit({status})"))
    supervisor.run_next()
    with sessions() as session:
        job = queries.find_job(session, queued_job)
        event = list(queries.list_events(session, queued_job))[-1]
    assert (job.state, job.crashes, job.outages) == (JobState.QUEUED, 0, 1)
    assert event.body == {"attempt": 1, "reason": outage}


def test_job_runs_where_the_warm_process_fails(settings, sessions, queued_job, monkeypatch):
    """A job whose fork could not start runs in a new process, and no crash is counted."""
    monkeypatch.setattr(supervision, "ProcessGroup", lambda *_: process(f"import sys; sys.exit({os.EX_TEMPFAIL})"))
    with WarmProcess(["a_library_that_is_missing"], dict(os.environ)) as warm:
        Supervisor(settings, sessions, warm).run_next()
    with sessions() as session:
        job = queries.find_job(session, queued_job)
    assert (job.state, job.crashes, job.outages) == (JobState.QUEUED, 0, 1)


def test_threads_are_those_of_the_settings(settings, monkeypatch):
    """The number of threads is the setting's, else the environment's, else the number of cores that this process may use."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment = supervision.job_environment(settings.model_copy(update={"threads": 3}))
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")
    default_environment = supervision.job_environment(settings)
    assert (default_environment["OMP_NUM_THREADS"], default_environment["MKL_NUM_THREADS"]) == (
        "2",
        str(cpu_budget().count),
    )
