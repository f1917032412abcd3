"""A sweep finds what messages and workers left behind."""

import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from jobs import control, folder_storage, lifecycle, object_storage, queries, removal
from jobs.database import open_database, upgrade
from jobs.settings import Settings
from jobs.states import JobState
from jobs.storage import FolderStorage, ObjectStorage, Storage
from tests.registered import queued_audit, ready_model
from tests.servers import free_port
from tests.stored import contents
from worker.recovery import Sweeper


class Bell:
    """A queue that remembers who was rung, and answers as it is told."""

    def __init__(self, works: bool = True) -> None:
        self.rung: list[str] = []
        self.works = works

    def ring(self, job_id: str, _pool: str | None) -> bool:
        """Remembers the job."""
        self.rung.append(job_id)
        return self.works


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Settings of a site that sweeps often and gives up early."""
    return Settings(data_dir=tmp_path / "faal-data", sweep_seconds=0.05, max_attempts=2)


@pytest.fixture
def sweeper(settings, sessions, storage):
    """A sweeper of an idle worker, whose rings are remembered, over a storage of either kind."""
    made = Sweeper(settings, sessions, idle=lambda: True)
    made._queue, made._storage = Bell(), storage
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
    often, seldom = (sweeper._settings.model_copy(update={"sweep_seconds": seconds}) for seconds in (0.05, 3600))
    for rung, settings in ((1, often), (1, seldom), (2, often)):
        time.sleep(0.1)
        sweeper._settings = settings
        sweeper.sweep()
        assert sweeper._queue.rung == [queued_job] * rung


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


@pytest.fixture(params=["here", "in storage"])
def kept(request, sweeper, settings, queued_job) -> Callable[[str], Storage]:
    """Makes what a job kept for its next attempt: its folder on this machine, or its part of the storage."""

    def of_job(job_id: str) -> Storage:
        here = FolderStorage(settings.checkpoints_dir / job_id)
        made = here if request.param == "here" else sweeper._storage.of_job(job_id)
        made.put([b"a checkpoint"], media_type="application/octet-stream")
        return made

    return of_job


def test_folders_of_ended_jobs_go(sweeper, sessions, queued_job, kept):
    """What a job kept for its next attempt, here and in storage, is removed after its end, and not before."""
    checkpoint = kept(queued_job)
    sweeper.sweep()
    assert contents(checkpoint) == [b"a checkpoint"]
    with sessions.begin() as session:
        control.cancel(session, queued_job)
    sweeper.sweep()
    assert contents(checkpoint) == []


def test_folders_of_strangers_stay(sweeper, kept):
    """A folder that belongs to no job in the table is not ours to remove."""
    strange = kept("job_of_another_database")
    sweeper.sweep()
    assert contents(strange) == [b"a checkpoint"]


@pytest.mark.parametrize(("days", "left"), [(0.9, [b"a checkpoint"]), (1.1, [])])
def test_folders_of_deleted_jobs_go(sweeper, sessions, queued_job, kept, days, left, monkeypatch):
    """What a job kept that was deleted before a sweep saw its end is removed once it has been silent for a day."""
    checkpoint = kept(queued_job)
    with sessions.begin() as session:
        control.cancel(session, queued_job)
        removal.remove_job(session, queued_job)
    later = SimpleNamespace(time=lambda: time.time() + days * removal.SECONDS_A_DAY)
    for module in (folder_storage, object_storage):
        monkeypatch.setattr(module, "time", later)
    sweeper.sweep()
    assert contents(checkpoint) == left


def test_failing_store_stops_no_sweep(settings, sessions, queued_job, object_store, tmp_path, monkeypatch, caplog):
    """While the object store is away waiting jobs are rung all the same, and the log has a line of it without a traceback."""
    url = object_store.new_url()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    sweeper = Sweeper(settings, sessions, idle=lambda: True)
    sweeper._queue, sweeper._storage = Bell(), ObjectStorage(url, tmp_path, patience_seconds=0.1)
    time.sleep(0.1)
    with sweeper:
        deadline = time.monotonic() + 10
        while "the sweep was not completed" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert set(sweeper._queue.rung) == {queued_job}  # again by each sweep before the log was read
    assert "the sweep was not completed: The object store does not answer" in caplog.text
    assert "Traceback" not in caplog.text


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


def test_killed_uploads_go(settings, sessions):
    """A sweep removes what an upload left that was killed a day ago, and nothing younger."""
    sweeper = Sweeper(settings, sessions, idle=lambda: True)
    old, young = (settings.files_dir / "incoming" / name for name in ("old", "young"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    sweeper.sweep()
    assert [file.name for file in old.parent.iterdir()] == ["young"]
