"""The actions of clients on a job, one after the other."""

from datetime import UTC, datetime, timedelta

import pytest

from faal_core.errors import UnknownName
from jobs import control, lifecycle
from jobs.errors import DatasetNotFound, JobNotFound, JobStateConflict, ModelNotFound, ModelNotReady
from jobs.model_registry import register_upload
from jobs.states import JobKind, JobState
from tests.job_steps import (
    SITE,
    SPEC,
    UPLOAD,
    WORKER,
    claim_job,
    load_event_kinds,
    load_events,
    load_job,
    queue_audit,
    run_sweep,
    submit_job,
)


def test_submit(sessions, model_id):
    """A submitted job is queued, untouched, and has one event."""
    job = load_job(sessions, queue_audit(sessions, model_id))
    assert (job.kind, job.state, job.version, job.attempt, job.crashes) == (JobKind.AUDIT, JobState.QUEUED, 1, 0, 0)
    assert (job.owner, job.spec, job.metadata_, job.error) == ("ann", {"seed": 0}, {}, None)
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert [(event.seq, event.kind) for event in load_events(sessions, job.id)] == [(1, "queued")]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model_id": "model_none"}, ModelNotFound),
        ({"dataset": "dataset_none"}, DatasetNotFound),
        ({"dataset": "mnits"}, UnknownName),
    ],
)
def test_submit_checks_what_it_names(sessions, model_id, fields, error):
    """A job for a model or data set that does not exist is refused with a message that names it."""
    request = {"model_id": model_id, "dataset": "mnist", **fields}
    with pytest.raises(error, match=next(iter(fields.values()))), sessions.begin() as session:
        submit_job(session, kind=JobKind.AUDIT, spec={}, owner="ann", **request)


def test_submit_waits_for_the_check(sessions):
    """A job for a model that is still being checked is refused."""
    with sessions.begin() as session:
        model, _ = register_upload(session, name="m", spec=SPEC, upload=UPLOAD, owner="ann")
    with pytest.raises(ModelNotReady, match="still being checked"):
        queue_audit(sessions, model.id)


def test_cancel_while_queued(sessions, job_id):
    """A queued job is cancelled at once, and again without a change."""
    with sessions.begin() as session:
        assert control.cancel(session, job_id).state is JobState.CANCELLED
    with sessions.begin() as session:
        assert control.cancel(session, job_id).version == 2
    assert load_event_kinds(sessions, job_id) == ["queued", "cancelled"]


def test_cancel_while_running(sessions, job_id):
    """A running job gets one request to stop; its worker reads it and cancels the job."""
    claim_job(sessions, job_id)
    for _ in range(2):
        with sessions.begin() as session:
            assert not control.cancel(session, job_id).state.startswith("cancel")
    with sessions() as session:
        assert lifecycle.is_stop_requested(session, job_id, 1)
    with sessions.begin() as session:
        assert lifecycle.cancel_running(session, job_id, 1).state is JobState.CANCELLED
    assert load_event_kinds(sessions, job_id) == ["queued", "running", "cancel-requested", "cancelled"]


def test_a_cancelled_job_does_not_run_again(sessions, job_id):
    """A job that was asked to stop and then lost its worker is cancelled instead of queued."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        control.cancel(session, job_id)
    with sessions.begin() as session:
        assert lifecycle.release(session, job_id, 1, reason="worker-lost") is JobState.CANCELLED


def test_pause_while_queued(sessions, job_id):
    """A paused queued job is not claimed; when resumed its workers are notified as for a new job."""
    with sessions.begin() as session:
        control.pause(session, job_id)
    run_sweep(sessions)
    with sessions.begin() as session:
        assert lifecycle.claim_next(session, **WORKER) is None
        assert control.resume(session, job_id).state is JobState.QUEUED
    assert load_event_kinds(sessions, job_id) == ["queued", "paused", "queued"]
    assert claim_job(sessions, job_id) == 1


@pytest.mark.parametrize("reason", ["worker-stopped", "worker-lost"])
def test_pause_while_running(sessions, job_id, reason):
    """A running job with a request to pause is paused when its worker gives it back, and keeps checkpoint and crashes."""
    attempt = claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.record_checkpoint(session, job_id, attempt, {"training.pt": "0" * 64})
        assert control.pause(session, job_id).state is JobState.RUNNING
        assert lifecycle.is_stop_requested(session, job_id, attempt)
        assert lifecycle.release(session, job_id, attempt, reason=reason) is JobState.PAUSED
    job = load_job(sessions, job_id)
    assert (job.checkpoint, job.crashes, job.pause_requested) == ({"training.pt": "0" * 64}, 0, False)
    assert load_event_kinds(sessions, job_id) == ["queued", "running", "pause-requested", "paused"]


def test_a_pause_can_be_taken_back(sessions, job_id):
    """A job that is resumed before it has stopped is queued again by the worker that stops it, or continues."""
    attempt = claim_job(sessions, job_id)
    with sessions.begin() as session:
        control.pause(session, job_id)
        assert control.resume(session, job_id).state is JobState.RUNNING
        assert not lifecycle.is_stop_requested(session, job_id, attempt)
        assert lifecycle.release(session, job_id, attempt, reason="worker-stopped") is JobState.QUEUED


def test_a_paused_job_is_cancelled_at_once(sessions, job_id):
    """Cancelling a paused job needs no worker."""
    with sessions.begin() as session:
        control.pause(session, job_id)
        assert control.cancel(session, job_id).state is JobState.CANCELLED


def test_retry(sessions, model_id):
    """The retry of a failed job is a new job with the same request that names it, once for an idempotency key."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    choices = {"priority": 2, "metadata": {"ticket": "1"}, "budget_minutes": 5.0, "deadline": soon}
    failed_job = queue_audit(sessions, model_id, **choices)
    attempt = claim_job(sessions, failed_job)
    with sessions.begin() as session:
        lifecycle.fail(session, failed_job, attempt, code="internal-error", message="m")
        tries = [control.retry(session, SITE, failed_job, owner="ann", idempotency_key="k").id for _ in "12"]
    old, new = load_job(sessions, failed_job), load_job(sessions, tries[0])
    assert tries[0] == tries[1] != failed_job
    assert (new.state, new.retry_of, old.state) == (JobState.QUEUED, failed_job, JobState.FAILED)
    assert (new.spec, new.dataset, new.priority, new.metadata_) == (old.spec, old.dataset, 2, {"ticket": "1"})
    assert (new.budget_minutes, new.deadline, new.seconds_run) == (5.0, None, 0.0)


def test_only_what_did_not_succeed_is_tried_again(sessions, job_id):
    """A job that waits, runs or succeeded cannot be retried, nor can the check of an upload."""
    with sessions.begin() as session:
        _, check = register_upload(session, name="m", spec=SPEC, upload=UPLOAD, owner="ann")
        control.cancel(session, check.id)
        for other in (job_id, check.id):
            with pytest.raises(JobStateConflict):
                control.retry(session, SITE, other, owner="ann")


def test_an_ended_job_is_not_cancelled(sessions, job_id):
    """Cancelling a job that has a report is a conflict that names its state; a job that does not exist is not found."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report="{}")
    with pytest.raises(JobStateConflict, match="has succeeded already"), sessions.begin() as session:
        control.cancel(session, job_id)
    with pytest.raises(JobNotFound, match="job_none"), sessions.begin() as session:
        control.cancel(session, "job_none")
