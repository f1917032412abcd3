"""A sweep handles the jobs, files and folders that messages and workers left."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from jobs import control, folder_storage, lifecycle, object_storage, queries, removal
from jobs.database import Sessions, open_database, upgrade
from jobs.settings import Settings
from jobs.states import JobState
from jobs.storage import FolderStorage, ObjectStorage, Storage
from tests.servers import find_free_port
from tests.storage_contents import read_contents
from worker.recovery import Sweeper


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return settings of a site with frequent sweeps and few attempts."""
    return Settings(data_dir=tmp_path / "faal-data", sweep_seconds=0.05, lease_seconds=0.3, max_attempts=2)


@pytest.fixture
def looks() -> list[None]:
    """Return the list to which every search for waiting jobs is added."""
    return []


@pytest.fixture
def sweeper(settings, sessions, storage, looks):
    """Return a sweeper over a storage of either kind, whose searches for waiting jobs are counted."""
    sweeper_with_storage = Sweeper(settings, sessions, after_sweep=lambda: looks.append(None))
    sweeper_with_storage._storage = storage
    sweeper_with_storage._seconds = 0.5  # tests sweep when they like
    return sweeper_with_storage


def state(sessions, job_id: str) -> JobState:
    """Return the job's state."""
    with sessions() as session:
        return queries.find_job(session, job_id).state


def claim(sessions, job_id: str, lease_seconds: float) -> None:
    """Claim the job as another worker, for that long."""
    with sessions.begin() as session:
        assert lifecycle.claim(session, job_id, worker="elsewhere:1", lease_seconds=lease_seconds)


def test_every_sweep_looks_for_jobs(sweeper, looks):
    """Each sweep lets an idle worker search for waiting jobs, so that none depends on a message."""
    sweeper.sweep()
    sweeper.sweep()
    assert len(looks) == 2


def test_expired_job_is_taken_back(sweeper, sessions, queued_job):
    """A job whose worker is silent waits again after a sweep, before the worker searches for jobs."""
    sweeper.sweep()
    claim(sessions, queued_job, lease_seconds=0.05)
    time.sleep(0.4)
    states = []
    sweeper._after_sweep = lambda: states.append(state(sessions, queued_job))
    sweeper.sweep()
    assert states == [JobState.QUEUED]


def test_live_job_is_left_alone(sweeper, sessions, queued_job):
    """A job whose lease lasts stays with its worker."""
    sweeper.sweep()
    claim(sessions, queued_job, lease_seconds=60)
    time.sleep(0.1)
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.RUNNING


def sweep_until_taken_back(sweeper, sessions, job_id: str):
    """Return the job when sweeps have taken it back. After a pause of this process, a sweep takes nothing back."""
    while True:
        time.sleep(0.1)
        sweeper.sweep()
        with sessions() as session:
            job = queries.find_job(session, job_id)
        if job.state is not JobState.RUNNING:
            return job


def test_job_that_kills_its_workers_fails(sweeper, sessions, queued_job):
    """After the allowed number of lost workers the job fails with the reason."""
    sweeper.sweep()
    time.sleep(0.3)
    for _ in range(2):
        claim(sessions, queued_job, lease_seconds=0.01)
        job = sweep_until_taken_back(sweeper, sessions, queued_job)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "worker-lost")


def test_a_database_that_was_slow_to_answer_costs_no_attempt(settings, sessions, queued_job):
    """A frozen database fails no sweep; no job is requeued right after, since no lease could be renewed meanwhile."""

    class Slow(Sessions):
        @contextmanager
        def begin(self):
            with super().begin() as session:
                time.sleep(0.4)
                yield session

    sweeper = Sweeper(settings, sessions, after_sweep=lambda: None)
    sweeper._seconds = 0.5
    sweeper.sweep()
    claim(sessions, queued_job, lease_seconds=0.01)
    time.sleep(0.4)
    sweeper._sessions = Slow(sessions.engine)
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.RUNNING
    sweeper._sessions = sessions
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.RUNNING
    time.sleep(0.4)
    sweeper.sweep()
    assert state(sessions, queued_job) is JobState.QUEUED


def test_an_outage_of_the_database_costs_no_attempt(settings, sessions, queued_job):
    """After an outage a job whose lease expired keeps its worker for one more lease, and is requeued only then."""
    claim(sessions, queued_job, lease_seconds=0.01)
    outage = threading.Event()

    class Away(Sessions):
        @contextmanager
        def begin(self):
            if outage.is_set():
                raise OperationalError("no connection", None, Exception())
            with super().begin() as session:
                yield session

    patient = settings.model_copy(update={"lease_seconds": 1.5})
    with Sweeper(patient, Away(sessions.engine), after_sweep=lambda: None):
        time.sleep(0.3)
        outage.set()
        time.sleep(1.5)
        outage.clear()
        time.sleep(0.7)
        assert state(sessions, queued_job) is JobState.RUNNING
        deadline = time.monotonic() + 10
        while state(sessions, queued_job) is JobState.RUNNING and time.monotonic() < deadline:
            time.sleep(0.05)
        assert state(sessions, queued_job) is JobState.QUEUED


@pytest.fixture(params=["here", "in storage"])
def make_checkpoint(request, sweeper, settings, queued_job) -> Callable[[str], Storage]:
    """Return a function that makes a job's checkpoint: its folder on this machine, or its part of the storage."""

    def of_job(job_id: str) -> Storage:
        here = FolderStorage(settings.checkpoints_dir / job_id)
        checkpoint = here if request.param == "here" else sweeper._storage.for_job(job_id)
        checkpoint.put([b"a checkpoint"], media_type="application/octet-stream")
        return checkpoint

    return of_job


def test_folders_of_ended_jobs_go(sweeper, sessions, queued_job, make_checkpoint):
    """The files that a job kept for its next attempt, here and in storage, are removed after its end, and not before."""
    checkpoint = make_checkpoint(queued_job)
    sweeper.sweep()
    assert read_contents(checkpoint) == [b"a checkpoint"]
    with sessions.begin() as session:
        control.cancel(session, queued_job)
    sweeper.sweep()
    assert read_contents(checkpoint) == []


def test_folders_of_strangers_stay(sweeper, make_checkpoint):
    """A folder that belongs to no job in the table is not removed."""
    strange = make_checkpoint("job_of_another_database")
    sweeper.sweep()
    assert read_contents(strange) == [b"a checkpoint"]


@pytest.mark.parametrize(("days", "contents"), [(0.9, [b"a checkpoint"]), (1.1, [])])
def test_folders_of_deleted_jobs_go(sweeper, sessions, queued_job, make_checkpoint, days, contents, monkeypatch):
    """The files of a job that was deleted before a sweep noticed its end are removed after a day of silence."""
    checkpoint = make_checkpoint(queued_job)
    with sessions.begin() as session:
        control.cancel(session, queued_job)
        removal.remove_job(session, queued_job)
    later = SimpleNamespace(time=lambda: time.time() + days * removal.SECONDS_A_DAY)
    for module in (folder_storage, object_storage):
        monkeypatch.setattr(module, "time", later)
    sweeper.sweep()
    assert read_contents(checkpoint) == contents


def test_failing_store_stops_no_sweep(settings, sessions, looks, object_store, tmp_path, monkeypatch, caplog):
    """While the object store is unavailable a worker still searches for jobs, and the log has a line without a traceback."""
    url = object_store.new_url()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_free_port()}")
    sweeper = Sweeper(settings, sessions, after_sweep=lambda: looks.append(None))
    sweeper._storage = ObjectStorage(url, tmp_path, patience_seconds=0.1)
    with sweeper:
        deadline = time.monotonic() + 10
        while "the sweep was not completed" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert looks
    assert "the sweep was not completed: The object store does not answer" in caplog.text
    assert "Traceback" not in caplog.text


def test_sweeping_goes_on(settings, tmp_path, looks):
    """The thread sweeps repeatedly, and survives a database that has no tables yet."""
    url = f"sqlite:///{tmp_path / 'late.db'}"
    sessions = open_database(url)
    with Sweeper(settings, sessions, after_sweep=lambda: looks.append(None)) as sweeper:
        time.sleep(0.2)
        assert not looks
        upgrade(url)
        deadline = time.monotonic() + 10
        while not looks and time.monotonic() < deadline:
            time.sleep(0.02)
        assert looks
    assert not sweeper._thread.is_alive()
    sessions.close()


def test_killed_uploads_go(settings, sessions):
    """A sweep removes the remains of an upload that was killed a day ago, and nothing younger."""
    sweeper = Sweeper(settings, sessions, after_sweep=lambda: None)
    old, young = (settings.files_dir / "incoming" / name for name in ("old", "young"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    sweeper.sweep()
    assert [file.name for file in old.parent.iterdir()] == ["young"]
