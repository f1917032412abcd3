"""The actions of workers on a job, one after the other."""

import threading
from datetime import UTC, datetime, timedelta
from math import inf
from typing import get_args

import pytest
from sqlalchemy import update

from jobs import control, lifecycle, queries
from jobs.clock import now
from jobs.errors import LeaseLost
from jobs.states import JobState, Outage
from jobs.tables import Job
from tests.job_steps import WORKER, claim_job, load_event_kinds, load_events, load_job, queue_audit, run_sweep


def test_claim(sessions, job_id):
    """A claim makes the job running for one worker, under a new attempt and a lease."""
    assert claim_job(sessions, job_id) == 1
    job = load_job(sessions, job_id)
    assert (job.state, job.lease_owner, job.version) == (JobState.RUNNING, "host:1", 2)
    assert (job.lease_expires_at - job.started_at).total_seconds() == pytest.approx(60, abs=0.1)
    assert [(event.kind, event.body) for event in load_events(sessions, job_id)][1:] == [("running", {"attempt": 1})]


def test_a_running_job_is_not_claimed(sessions, job_id):
    """A second claim, by this worker or another, gets no job and changes nothing."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        assert lifecycle.claim(session, job_id, worker="other", lease_seconds=60) is None
    assert (load_job(sessions, job_id).version, load_job(sessions, job_id).lease_owner) == (2, "host:1")


def test_an_absent_job_is_not_claimed(sessions):
    """A message for a job that does not exist has no effect."""
    with sessions.begin() as session:
        assert lifecycle.claim(session, "job_none", **WORKER) is None


def test_renew(sessions, job_id):
    """A renewed lease lasts from now on, and clients see no change."""
    claim_job(sessions, job_id, lease_seconds=1)
    with sessions.begin() as session:
        assert lifecycle.renew(session, job_id, 1, lease_seconds=60)
    job = load_job(sessions, job_id)
    assert job.lease_expires_at > datetime.now(UTC) + timedelta(seconds=50)
    assert job.version == 2


def test_record(sessions, job_id):
    """Progress is stored; a new stage starts at 0; an event gets the number of the version that it creates."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.record_progress(session, job_id, 1, stage="audit", total=500)
        lifecycle.record_progress(session, job_id, 1, done=250, seconds_left=8.5, event=("attack", {"broken": 3}))
    job = load_job(sessions, job_id)
    assert (job.stage, job.done, job.total, job.seconds_left, job.version) == ("audit", 250, 500, 8.5, 4)
    assert [(event.seq, event.kind, event.body) for event in load_events(sessions, job_id)][2:] == [
        (4, "attack", {"broken": 3})
    ]
    with sessions.begin() as session:
        job = lifecycle.record_progress(session, job_id, 1, stage="train", total=6000)
    assert (job.stage, job.done, job.total, job.seconds_left) == ("train", 0, 6000, None)


def test_record_checkpoint(sessions, job_id):
    """A job's checkpoint outlasts its attempts, is invisible to clients, and is deleted when the job ends."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.record_checkpoint(session, job_id, 1, {"training.pt": "a" * 64})
        lifecycle.record_checkpoint(session, job_id, 1, {"training.pt": "b" * 64})
    assert load_job(sessions, job_id).version == 2
    with sessions.begin() as session:
        lifecycle.release(session, job_id, 1, reason="worker-lost")
    claim_job(sessions, job_id)
    assert load_job(sessions, job_id).checkpoint == {"training.pt": "b" * 64}
    with sessions.begin() as session:
        lifecycle.fail(session, job_id, 2, code="internal-error", message="m")
    assert load_job(sessions, job_id).checkpoint is None


def test_held_job_is_not_taken_back(sessions, job_id):
    """A held job keeps its attempt until the transaction ends, although its lease has expired."""
    claim_job(sessions, job_id, lease_seconds=-1)
    sweeping = threading.Thread(target=run_sweep, args=[sessions])
    with sessions.begin() as session:
        assert lifecycle.lock_leased_job(session, job_id, 1).attempt == 1
        sweeping.start()
        sweeping.join(0.3)
        assert load_job(sessions, job_id).state is JobState.RUNNING
    sweeping.join()
    run_sweep(sessions)
    assert load_job(sessions, job_id).state is JobState.QUEUED


def test_succeed(sessions, job_id):
    """The report and the end of the job are stored together."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report='{"kind": "audit"}')
    job = load_job(sessions, job_id)
    assert (job.state, job.lease_owner, job.lease_expires_at) == (JobState.SUCCEEDED, None, None)
    assert job.finished_at >= job.started_at
    with sessions() as session:
        assert queries.find_report(session, job_id).document == '{"kind": "audit"}'
    assert load_event_kinds(sessions, job_id) == ["queued", "running", "succeeded"]


def test_success_is_all_or_nothing(sessions, job_id):
    """If a result of a job is invalid, neither report nor state is stored."""
    claim_job(sessions, job_id)
    with pytest.raises(ValueError, match=r"audit job ends with \['report'\]"), sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report="{}", summary={"images": 1})
    assert load_job(sessions, job_id).state is JobState.RUNNING
    with sessions() as session:
        assert queries.find_report(session, job_id) is None


def test_fail(sessions, job_id):
    """A failed job keeps its error, and its last event carries it."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.fail(session, job_id, 1, code="training-diverged", message="The loss is NaN.")
    problem = {"code": "training-diverged", "message": "The loss is NaN."}
    assert (load_job(sessions, job_id).state, load_job(sessions, job_id).error) == (JobState.FAILED, problem)
    assert load_events(sessions, job_id)[-1].body == {"attempt": 1, **problem}


def test_a_graceful_stop_is_no_crash(sessions, job_id):
    """A job that its worker gives back when it stops is queued again, however often, and its workers are notified at once."""
    for attempt in range(1, 6):
        assert claim_job(sessions, job_id) == attempt
        with sessions.begin() as session:
            assert lifecycle.release(session, job_id, attempt, reason="worker-stopped") is JobState.QUEUED
    job = load_job(sessions, job_id)
    assert (job.attempt, job.crashes, job.lease_owner) == (5, 0, None)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [("worker-lost", "Submit the job again"), ("out-of-memory", "batch size")],
)
def test_the_last_crash_fails(sessions, job_id, reason, advice):
    """A job is queued again after each crash until the crash number `max_attempts`, which fails it with advice."""
    states = []
    for attempt in range(1, 4):
        claim_job(sessions, job_id)
        with sessions.begin() as session:
            states.append(lifecycle.release(session, job_id, attempt, reason=reason, max_attempts=3))
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    error = load_job(sessions, job_id).error
    assert error["code"] == reason
    assert "3 times" in error["message"]
    assert advice in error["message"]


def test_a_cancelled_audit_keeps_what_it_found(sessions, job_id):
    """A job that is cancelled with a report keeps it; a job cancelled without one has none."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.cancel_running(session, job_id, 1, report="{}")
    with sessions() as session:
        assert queries.find_report(session, job_id).document == "{}"


def test_the_most_urgent_job_is_claimed(sessions, model_id):
    """The claimed job is the waiting one with the highest priority, then the oldest; a paused job does not wait."""
    waiting = [queue_audit(sessions, model_id, priority=priority) for priority in (0, 3, 3, -1, 5)]
    with sessions.begin() as session:
        control.pause(session, waiting[4])
    ids = []
    while True:
        with sessions.begin() as session:
            if (job := lifecycle.claim_next(session, **WORKER)) is None:
                break
        ids.append(job.id)
    assert ids == [waiting[1], waiting[2], waiting[0], waiting[3]]


STALE_WRITES = {
    "record": lambda session, job_id: lifecycle.record_progress(session, job_id, 1, done=1, event=("x", {})),
    "succeed": lambda session, job_id: lifecycle.succeed(session, job_id, 1, report="{}"),
    "fail": lambda session, job_id: lifecycle.fail(session, job_id, 1, code="internal-error", message="m"),
    "release": lambda session, job_id: lifecycle.release(session, job_id, 1, reason="worker-lost"),
    "cancel": lambda session, job_id: lifecycle.cancel_running(session, job_id, 1),
    "hold": lambda session, job_id: lifecycle.lock_leased_job(session, job_id, 1),
    "record_checkpoint": lambda session, job_id: lifecycle.record_checkpoint(
        session, job_id, 1, {"training.pt": "a" * 64}
    ),
}


@pytest.mark.parametrize("write", STALE_WRITES.values(), ids=STALE_WRITES.keys())
@pytest.mark.parametrize("claimed_again", [False, True], ids=["queued", "claimed-again"])
def test_a_lost_lease_changes_nothing(sessions, job_id, write, claimed_again):
    """A worker whose job was requeued, or claimed by another worker since, gets LeaseLost and changes nothing."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.release(session, job_id, 1, reason="worker-lost")
    if claimed_again:
        assert claim_job(sessions, job_id) == 2
    before, kinds = load_job(sessions, job_id), load_event_kinds(sessions, job_id)
    with pytest.raises(LeaseLost, match="nothing was changed"), sessions.begin() as session:
        write(session, job_id)
    after = load_job(sessions, job_id)
    columns = Job.__table__.columns.keys()
    assert [getattr(after, name, None) for name in columns] == [getattr(before, name, None) for name in columns]
    assert load_event_kinds(sessions, job_id) == kinds
    with sessions() as session:
        assert queries.find_report(session, job_id) is None
        assert not lifecycle.is_stop_requested(session, job_id, 1)
    with sessions.begin() as session:
        assert not lifecycle.renew(session, job_id, 1, lease_seconds=60)


def test_jobs_are_taken_back(sessions, model_id):
    """Jobs whose lease expired are queued again, once, and counted; those with a lease keep their worker."""
    dead, alive = queue_audit(sessions, model_id), queue_audit(sessions, model_id)
    claim_job(sessions, dead, lease_seconds=-1)
    claim_job(sessions, alive)
    with sessions.begin() as session:
        assert lifecycle.take_back(session) == [dead]
    with sessions.begin() as session:
        assert lifecycle.take_back(session) == []
    job = load_job(sessions, dead)
    assert (job.state, job.crashes, job.leases_lost) == (JobState.QUEUED, 1, 1)
    assert load_events(sessions, dead)[-1].body == {"attempt": 1, "reason": "worker-lost"}
    assert load_job(sessions, alive).state is JobState.RUNNING


def test_a_job_fails_after_the_last_crash(sessions, job_id):
    """A job fails when its last allowed worker is lost."""
    claim_job(sessions, job_id, lease_seconds=-1)
    with sessions.begin() as session:
        lifecycle.take_back(session, max_attempts=1)
    job = load_job(sessions, job_id)
    assert (job.error["code"], job.crashes, job.leases_lost) == ("worker-lost", 1, 1)


@pytest.mark.parametrize("outage", get_args(Outage))
def test_an_outage_is_no_crash(sessions, job_id, outage):
    """An outage counts no crash; the job waits, longer each time, and fails after 20 outages."""
    pauses = []
    for number in range(1, lifecycle.MAX_OUTAGES):
        attempt = claim_job(sessions, job_id)
        with sessions.begin() as session:
            assert lifecycle.release(session, job_id, attempt, reason=outage, max_attempts=1) is JobState.QUEUED
            assert lifecycle.claim_next(session, **WORKER) is None
        job = load_job(sessions, job_id)
        assert (job.crashes, job.outages) == (0, number)
        pauses.append((job.not_before - datetime.now(UTC)).total_seconds())
    assert pauses[:8] == [pytest.approx(seconds, abs=2) for seconds in (5, 10, 20, 40, 80, 160, 300, 300)]
    with sessions.begin() as session:
        session.execute(update(Job).values(not_before=now(-1)))
        attempt = lifecycle.claim_next(session, **WORKER).attempt
    with sessions.begin() as session:
        assert lifecycle.release(session, job_id, attempt, reason=outage) is JobState.FAILED
    job = load_job(sessions, job_id)
    assert job.error["code"] == outage
    assert f"{lifecycle.MAX_OUTAGES} attempts" in job.error["message"]


@pytest.mark.parametrize(("ask", "state"), [(control.cancel, JobState.CANCELLED), (control.pause, JobState.PAUSED)])
def test_a_lost_lease_is_counted_whatever_follows(sessions, job_id, ask, state):
    """A job with a request to stop also counts an expired lease."""
    claim_job(sessions, job_id, lease_seconds=-1)
    with sessions.begin() as session:
        ask(session, job_id)
        lifecycle.take_back(session)
    assert (load_job(sessions, job_id).state, load_job(sessions, job_id).leases_lost) == (state, 1)


def test_seconds_allowed(sessions, model_id):
    """A job's time limit is the smaller of its budget and the time until its deadline; without either there is none."""
    soon = datetime.now(UTC) + timedelta(seconds=90)
    expected = {}
    for budget, deadline, limit in [(None, None, inf), (2, None, 80), (None, soon, 90), (2, soon, 80), (3, soon, 90)]:
        job_id = queue_audit(sessions, model_id, budget_minutes=budget, deadline=deadline)
        attempt = claim_job(sessions, job_id)
        with sessions.begin() as session:
            lifecycle.record_progress(session, job_id, attempt, stage="clean", seconds_run=40)
        with sessions.begin() as session:
            expected[lifecycle.seconds_allowed(session, lifecycle.lock_leased_job(session, job_id, attempt))] = limit
    assert list(expected) == [pytest.approx(limit, abs=5) for limit in expected.values()]


def test_a_job_that_nobody_began_in_time_fails(sessions, model_id):
    """After its deadline a waiting job is not claimed and the next sweep ends it; one that has run before is claimed again."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    early, late = (queue_audit(sessions, model_id, deadline=past) for _ in range(2))
    with sessions.begin() as session:
        lifecycle.release(session, early, claim_job(sessions, early), reason="worker-stopped")
    with sessions.begin() as session:
        assert lifecycle.claim_next(session, **WORKER).id == early
        assert lifecycle.claim_next(session, **WORKER) is None
    run_sweep(sessions)
    job = load_job(sessions, late)
    assert (job.state, job.error["code"], job.attempt) == (JobState.FAILED, "out-of-time", 0)
    assert load_event_kinds(sessions, late) == ["queued", "failed"]


def test_workers_take_the_jobs_of_their_pool(sessions, model_id):
    """A worker of a pool takes its pool's jobs and those without a pool; a worker without a pool takes only the latter."""
    large, _small, any_of_them = (queue_audit(sessions, model_id, pool=pool) for pool in ("h100", "a10", None))
    ids = []
    for pool in (None, None, "h100", "h100"):
        with sessions.begin() as session:
            job = lifecycle.claim_next(session, **WORKER, pool=pool)
            ids.append(job and job.id)
    assert ids == [any_of_them, None, large, None]
