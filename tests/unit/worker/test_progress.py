"""Progress reaches the table at a limited rate, and orders to stop reach the job."""

import time

import pytest
from pydantic import BaseModel

from faal_core.progress import Cancelled
from faal_core.results import cost
from faal_core.results.course import FinetuneCourse
from faal_core.specs import AuditSettings, FinetuneSpec, PgdSpec, TrainingSpec
from faal_core.threat_model import ThreatModel
from jobs import control, lifecycle, queries
from jobs.database import open_database
from jobs.tables import Job
from worker import progress as worker_progress
from worker.progress import JobProgress, event_kind


class EpochRow(BaseModel):
    """A row as the library reports it."""

    epoch: int


def stored_job(sessions, job_id: str) -> Job:
    """Return the job as it is in the table."""
    with sessions() as session:
        return queries.find_job(session, job_id)


def progress_of(sessions, job_id: str) -> tuple[str | None, int | None, int | None]:
    """Return stage, units done, and units in all."""
    job = stored_job(sessions, job_id)
    return job.stage, job.done, job.total


def request_cancel(sessions, job_id: str) -> None:
    """Cancel the job as a client does."""
    with sessions.begin() as session:
        control.cancel(session, job_id)


@pytest.fixture
def progress(sessions, running_job, open_checkpoint, monkeypatch):
    """Return the progress of a running job that writes at every step."""
    monkeypatch.setattr(worker_progress, "WRITE_SECONDS", 0)
    return JobProgress(sessions, running_job, 1, open_checkpoint(running_job))


def test_stage_and_units_are_written(progress, sessions, running_job):
    """Readers see the stage, its units, and how many are done."""
    progress.stage("epoch 1 of 2", 500)
    progress.advance(128)
    progress.advance(128)
    assert progress_of(sessions, running_job) == ("epoch 1 of 2", 256, 500)
    progress.stage("after: clean", 90)
    assert progress_of(sessions, running_job) == ("after: clean", 0, 90)


def test_the_time_left_of_a_fine_tuning_is_written(sessions, running_job, open_checkpoint, monkeypatch):
    """A fine-tuning that finished a quarter in 30 seconds of all attempts needs 90 more; at its start nothing is estimated."""
    monkeypatch.setattr(worker_progress, "WRITE_SECONDS", 0)
    progress = JobProgress(sessions, running_job, 2, open_checkpoint(running_job), seconds_run=30)
    with sessions.begin() as session:
        lifecycle.release(session, running_job, 1, reason="worker-stopped")
        lifecycle.claim(session, running_job, worker="w", lease_seconds=60)
    spec = FinetuneSpec(
        threat=ThreatModel(epsilon=0.1),
        training=TrainingSpec(learning_rates=(0.1,), validation_fraction=0, max_robust_drop=None, max_clean_drop=None),
        audit=AuditSettings(attacks=(PgdSpec(steps=20),)),
    )
    audit = cost.audit_cost(spec.audit, 100, 10).most
    course = FinetuneCourse(spec, 1000, 100, 10)
    training = cost.training_cost(spec, 1000, 10).most
    progress.follow(course)
    progress.stage("before: clean", 100)
    assert stored_job(sessions, running_job).seconds_left is None
    progress.stage("epoch 1 of 1", 1000)
    fraction = ((2 * audit + training) / 4 - audit) / training
    progress.advance(round(1000 * fraction))
    assert stored_job(sessions, running_job).seconds_left == pytest.approx(90, abs=6)


def test_the_estimate_of_an_audit_is_written(progress, sessions, running_job):
    """The longest remaining time is stored from the next write on, and removed when the job leaves this attempt."""
    progress.stage("clean", 500)
    assert stored_job(sessions, running_job).seconds_left is None
    progress.set_eta(720.5)
    progress.advance(250)
    assert stored_job(sessions, running_job).seconds_left == 720.5
    with sessions.begin() as session:
        lifecycle.release(session, running_job, 1, reason="worker-stopped")
    assert stored_job(sessions, running_job).seconds_left is None


def test_writes_keep_their_distance(sessions, running_job, open_checkpoint):
    """A thousand steps within half a second are two writes, before and after the first, beside the event of the stage before."""
    progress = JobProgress(sessions, running_job, 1, open_checkpoint(running_job))
    before = stored_job(sessions, running_job).version
    progress.stage("clean", 1000)
    for _ in range(1000):
        progress.advance()
    assert progress_of(sessions, running_job) == ("clean", 1, 1000)
    assert stored_job(sessions, running_job).version == before + 3


def test_stages_are_timed(progress, sessions, running_job):
    """The end of a stage is an event with its name, the units that were done, and its duration."""
    progress.stage("clean", 500)
    progress.advance(300)
    time.sleep(0.2)
    progress.stage("epoch 1 of 2", 10)
    with sessions() as session:
        stages = [event.body for event in queries.list_events(session, running_job) if event.kind == "stage"]
    assert [(stage["stage"], stage["done"]) for stage in stages] == [("starting", 0), ("clean", 300)]
    assert 0.2 <= stages[1]["seconds"] < 10


def test_what_no_write_has_taken_is_left(sessions, running_job, open_checkpoint):
    """Stages that pass between two writes, and the last one, are left in order for the code that settles the job."""
    progress = JobProgress(sessions, running_job, 1, open_checkpoint(running_job))
    for name in ("clean", "PGD-10", "PGD-20"):
        progress.stage(name, 10)
    assert [body["stage"] for _, body in progress.pending_events()] == ["clean", "PGD-10", "PGD-20"]
    with sessions() as session:
        recorded_stages = [
            event.body["stage"] for event in queries.list_events(session, running_job) if event.kind == "stage"
        ]
    assert recorded_stages == ["starting"]


def test_rows_become_events_at_once(sessions, running_job, open_checkpoint):
    """A finished row is an event of its kind, with its fields and its stage, whenever the last write was."""
    progress = JobProgress(sessions, running_job, 1, open_checkpoint(running_job))
    progress.stage("epoch 1 of 2", 10)
    progress.record(EpochRow(epoch=1))
    progress.record(EpochRow(epoch=2))
    with sessions() as session:
        events = queries.list_events(session, running_job)
    assert [(event.kind, event.body) for event in events if event.kind == "epoch"] == [
        ("epoch", {"stage": "epoch 1 of 2", "epoch": 1}),
        ("epoch", {"stage": "epoch 1 of 2", "epoch": 2}),
    ]


def test_rows_that_are_events_are_not_told_again(sessions, running_job, open_checkpoint):
    """A replayed row is recorded only where no earlier attempt has recorded it."""
    first = {"epoch": 1}
    progress = JobProgress(sessions, running_job, 1, open_checkpoint(running_job), earlier_rows=[first])
    for epoch in (1, 2):
        progress.replay(EpochRow(epoch=epoch))
    with sessions() as session:
        epochs = [event.body["epoch"] for event in queries.list_events(session, running_job) if event.kind == "epoch"]
    assert epochs == [2]


@pytest.mark.parametrize(
    ("name", "kind"), [("EpochRow", "epoch"), ("AttackRow", "attack"), ("DriftCheck", "drift-check")]
)
def test_kinds_are_named_after_rows(name, kind):
    """An event's kind is the row's class in kebab case, without "row"."""
    assert event_kind(type(name, (BaseModel,), {})()) == kind


def test_request_to_cancel_arrives(progress, sessions, running_job):
    """A job with a request to cancel stops at its next write."""
    progress.stage("clean", 10)
    request_cancel(sessions, running_job)
    with pytest.raises(Cancelled):
        progress.advance()


def test_lost_lease_stops_the_job(progress, sessions, running_job):
    """An attempt that no longer holds the job stops at its next write and changes nothing."""
    with sessions.begin() as session:
        lifecycle.release(session, running_job, 1, reason="worker-lost")
    with pytest.raises(Cancelled):
        progress.stage("clean", 10)
    assert progress_of(sessions, running_job) == (None, None, None)


def test_absent_database_costs_no_job(progress, sessions, running_job, tmp_path, caplog):
    """During an outage of the database the job continues; its records are written afterwards."""
    progress._sessions = open_database(f"sqlite:///{tmp_path / 'empty.db'}")
    progress.stage("epoch 1 of 2", 10)
    progress.record(EpochRow(epoch=1))
    assert "was not written" in caplog.text
    progress._sessions = sessions
    progress._write_at = 0.0  # the pause after a failed write is over
    progress.advance()
    with sessions() as session:
        assert queries.list_events(session, running_job)[-1].body["epoch"] == 1


def test_the_checkpoint_follows(sessions, running_job, open_checkpoint, tmp_path):
    """The files that the job saved before a write of its progress are in storage after it."""
    progress = JobProgress(sessions, running_job, 1, open_checkpoint(running_job, seconds=0))
    (tmp_path / "here" / "training.pt").write_bytes(b"state")
    progress.stage("epoch 1 of 2", 10)
    assert list(stored_job(sessions, running_job).checkpoint) == ["training.pt"]
