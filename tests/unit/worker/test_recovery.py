"""A sweep finds what messages and workers left behind."""

import os
import time

import pytest

from jobs import control, lifecycle, queries, removal
from jobs.database import open_database, upgrade
from jobs.settings import Settings
from jobs.states import JobState
from tests.registered import queued_audit, ready_model
from tests.servers import free_port
from worker.recovery import Sweeper


class Bell:
    """A queue that remembers who was rung, and answers as it is told."""

    def __init__(self, works: bool = True) -> None:
        self.rung: list[str] = []
        self.works = works

    def ring(self, job_id: str) -> bool:
        """Remembers the job."""
        self.rung.append(job_id)
        return self.works


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Settings of a site that sweeps often and gives up early."""
    return Settings(data_dir=tmp_path / "faal-data", sweep_seconds=0.05, max_attempts=2)


@pytest.fixture
def sweeper(settings, sessions):
    """A sweeper of an idle worker, whose rings are remembered."""
    made = Sweeper(settings, sessions, idle=lambda: True)
    made._queue = Bell()
    return made


def state(sessions, job_id: str) -> JobState:
    """The job's state."""
    with sessions() as session:
        return queries.job(session, job_id).state


def claim(sessions, job_id: str, lease_seconds: float) -> None:
    """Another worker takes the job for that long."""
    with sessions.begin() as session:
        assert lifecycle.claim(session, job_id, worker="elsewhere:1", lease_seconds=lease_seconds)


def test_forgotten_job_is_rung(sweeper, queued_job):
    """A job that nobody came for is rung again, and one that was just rung is given time."""
    time.sleep(0.1)
    sweeper.sweep()
    sweeper.sweep()
    assert sweeper._queue.rung == [queued_job]
    time.sleep(0.1)
    sweeper.sweep()
    assert sweeper._queue.rung == [queued_job] * 2


def test_busy_worker_rings_nobody(settings, sessions, queued_job):
    """A worker that could not come itself adds no messages to a queue that is long already."""
    busy = Sweeper(settings, sessions, idle=lambda: False)
    busy._queue = Bell()
    time.sleep(0.1)
    busy.sweep()
    assert busy._queue.rung == []


def test_expired_job_is_taken_back_and_rung(sweeper, sessions, queued_job):
    """A job whose worker fell silent waits again and is rung at once, even by a busy worker."""
    sweeper._idle = lambda: False
    claim(sessions, queued_job, lease_seconds=0.05)
    time.sleep(0.2)
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.QUEUED
    assert sweeper._queue.rung == [queued_job]


def test_live_job_is_left_alone(sweeper, sessions, queued_job):
    """A job whose lease lasts stays with its worker."""
    claim(sessions, queued_job, lease_seconds=60)
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.RUNNING
    assert sweeper._queue.rung == []


def test_job_that_kills_its_workers_fails(sweeper, sessions, queued_job):
    """After the allowed number of lost workers the job fails and says why."""
    for _ in range(2):
        claim(sessions, queued_job, lease_seconds=0.01)
        time.sleep(0.1)
        sweeper.sweep()
    with sessions() as session:
        job = queries.job(session, queued_job)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "worker-lost")


def test_dead_broker_is_tried_again(settings, sessions, queued_job):
    """A broker that takes no message delays the job to a later sweep and breaks nothing."""
    dead = settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    sweeper = Sweeper(dead, sessions, idle=lambda: True)
    time.sleep(0.1)
    sweeper.sweep()
    sweeper._queue = Bell()
    time.sleep(0.1)
    sweeper.sweep()
    assert sweeper._queue.rung == [queued_job]


def test_dead_broker_is_asked_once_a_sweep(sweeper, sessions, queued_job):
    """Where the first message is not taken, the others are not tried before the next sweep."""
    queued_audit(sessions, ready_model(sessions))
    sweeper._queue.works = False
    time.sleep(0.1)
    sweeper.sweep()
    assert sweeper._queue.rung == [queued_job]


@pytest.mark.parametrize("where", ["checkpoints_dir", "stored_checkpoints_dir"])
def test_folders_of_ended_jobs_go(sweeper, settings, sessions, queued_job, where):
    """What a job kept for its next attempt, here and in storage, is removed after its end, and not before."""
    folder = getattr(settings, where) / queued_job
    folder.mkdir(parents=True)
    (folder / "training.pt").touch()
    sweeper.sweep()
    assert folder.exists()
    with sessions.begin() as session:
        control.cancel(session, queued_job)
    sweeper.sweep()
    assert not folder.exists()


@pytest.mark.parametrize("where", ["checkpoints_dir", "stored_checkpoints_dir"])
def test_folders_of_strangers_stay(sweeper, settings, where):
    """A folder that belongs to no job in the table is not ours to remove."""
    folder = getattr(settings, where) / "job_of_another_database"
    folder.mkdir(parents=True)
    sweeper.sweep()
    assert folder.exists()


@pytest.mark.parametrize("where", ["checkpoints_dir", "stored_checkpoints_dir"])
@pytest.mark.parametrize(("days", "stays"), [(0.9, True), (1.1, False)])
def test_folders_of_deleted_jobs_go(sweeper, settings, sessions, queued_job, where, days, stays):
    """What a job kept that was deleted before a sweep saw its end is removed once it has been silent for a day."""
    folder = getattr(settings, where) / queued_job
    folder.mkdir(parents=True)
    with sessions.begin() as session:
        control.cancel(session, queued_job)
        removal.remove_job(session, queued_job)
    silent_since = time.time() - days * removal.SECONDS_A_DAY
    os.utime(folder, (silent_since, silent_since))
    sweeper.sweep()
    assert folder.exists() == stays


def test_sweeping_goes_on(settings, tmp_path):
    """The thread sweeps at once, again and again, and survives a database that has no tables yet."""
    url = f"sqlite:///{tmp_path / 'late.db'}"
    sessions = open_database(url)
    with Sweeper(settings, sessions, idle=lambda: True) as sweeper:
        time.sleep(0.2)
        upgrade(url)
        sweeper._queue = Bell()
        job_id = queued_audit(sessions, ready_model(sessions))
        deadline = time.monotonic() + 10
        while job_id not in sweeper._queue.rung and time.monotonic() < deadline:
            time.sleep(0.02)
        assert job_id in sweeper._queue.rung
    assert not sweeper._thread.is_alive()
    sessions.close()


def test_message_reaches_the_folder_broker(settings, sessions, queued_job):
    """With a real broker the sweep leaves one message for one forgotten job."""
    time.sleep(0.1)
    Sweeper(settings, sessions, idle=lambda: True).sweep()
    assert len(list((settings.data_dir / "broker").glob("*.message"))) == 1


def test_killed_uploads_go(sweeper, settings):
    """A sweep removes what an upload left that was killed a day ago, and nothing younger."""
    old, young = (settings.files_dir / "incoming" / name for name in ("old", "young"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    sweeper.sweep()
    assert [file.name for file in old.parent.iterdir()] == ["young"]
