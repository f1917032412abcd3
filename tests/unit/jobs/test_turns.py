"""The order in which workers claim jobs of several owners."""

import pytest

from jobs import dataset_registry, lifecycle
from jobs.states import JobState
from jobs.storage import StoredFile
from tests.job_steps import WORKER, load_job, queue_audit


def take_all(sessions, jobs: int) -> list[str]:
    """Let one worker take that many jobs, one after the other, and return their owners."""
    owners = []
    for _ in range(jobs):
        with sessions.begin() as session:
            job = lifecycle.claim_next(session, **WORKER)
            owners.append(job.owner)
        with sessions.begin() as session:
            lifecycle.fail(session, job.id, job.attempt, code="internal-error", message="")
    return owners


def test_owners_take_turns(sessions, model_id):
    """An owner with one job waits for one job of each other owner, however many jobs these have submitted before."""
    for _ in range(5):
        queue_audit(sessions, model_id, owner="dan")
    queue_audit(sessions, model_id, owner="bob")
    queue_audit(sessions, model_id, owner="cem")
    assert take_all(sessions, 7) == ["dan", "bob", "cem", "dan", "dan", "dan", "dan"]


def test_the_owner_with_fewest_running_jobs_is_next(sessions, model_id):
    """With several workers no owner gets a second place while another waits for a first."""
    for owner in ("dan", "dan", "dan", "bob", "bob", "cem"):
        queue_audit(sessions, model_id, owner=owner)
    claims = []
    for _ in range(6):
        with sessions.begin() as session:
            claims.append(lifecycle.claim_next(session, **WORKER).owner)
    assert claims == ["dan", "bob", "cem", "dan", "bob", "dan"]


def queued_check(sessions, owner: str) -> str:
    """Return the id of a job that checks a new upload of that owner."""
    with sessions.begin() as session:
        upload = StoredFile("0" * 64, 1, "application/zip")
        return dataset_registry.register_upload(session, name="signs", upload=upload, owner=owner)[1].id


def test_checks_of_uploads_come_first(sessions, model_id):
    """A check of an upload is claimed before every other job, of any priority."""
    queue_audit(sessions, model_id, owner="dan", priority=10)
    check = queued_check(sessions, "bob")
    with sessions.begin() as session:
        assert lifecycle.claim_next(session, **WORKER).id == check


def test_a_flood_of_checks_holds_up_no_other_owner(sessions, model_id):
    """Only one check of an owner comes first: if it was the owner's last job, the owners take turns."""
    for _ in range(5):
        queued_check(sessions, "dan")
    for _ in range(2):
        queue_audit(sessions, model_id, owner="bob")
    assert take_all(sessions, 7) == ["dan", "bob", "dan", "bob", "dan", "dan", "dan"]


def test_a_claim_whose_answer_was_lost_is_undone(sessions, model_id):
    """A job that an idle worker holds because it did not get the answer to its claim is given back, as after an outage."""
    held_job, others = (queue_audit(sessions, model_id, owner=owner) for owner in ("dan", "bob"))
    with sessions.begin() as session:
        lifecycle.claim(session, held_job, worker="here", lease_seconds=60)
        lifecycle.claim(session, others, worker="elsewhere", lease_seconds=60)
    with sessions.begin() as session:
        lifecycle.release_unstarted(session, "here", max_attempts=1)
    assert (load_job(sessions, held_job).state, load_job(sessions, held_job).outages) == (JobState.QUEUED, 1)
    assert load_job(sessions, others).state is JobState.RUNNING


def test_a_job_that_another_worker_is_taking_is_passed_over(sessions, model_id):
    """While another worker's claim is not committed yet, the next owner's job is claimed, or the next job of the same owner."""
    if sessions.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    waiting_jobs = [queue_audit(sessions, model_id, owner=owner) for owner in ("ann", "ann", "bob")]
    with sessions.begin() as first, sessions.begin() as second, sessions.begin() as third, sessions.begin() as fourth:
        claims = [lifecycle.claim_next(session, **WORKER) for session in (first, second, third, fourth)]
    assert sorted(job.id for job in claims[:3]) == sorted(waiting_jobs)
    assert claims[3] is None
