"""Whose job a worker takes next."""

import pytest

from jobs import dataset_registry, lifecycle
from jobs.storage import Stored
from tests.registered import WORKER, queued_audit


def take_all(sessions, jobs: int) -> list[str]:
    """Return the owners of the next so many jobs that one worker takes, each of which ends before the next is taken."""
    owners = []
    for _ in range(jobs):
        with sessions.begin() as session:
            job = lifecycle.claim_next(session, **WORKER)
            owners.append(job.owner)
        with sessions.begin() as session:
            lifecycle.fail(session, job.id, job.attempt, code="internal-error", message="")
    return owners


def test_owners_take_turns(sessions, model_id):
    """An owner with one job waits for one job of each other owner, however many these have submitted before."""
    for _ in range(5):
        queued_audit(sessions, model_id, owner="dan")
    queued_audit(sessions, model_id, owner="bob")
    queued_audit(sessions, model_id, owner="cem")
    assert take_all(sessions, 7) == ["dan", "bob", "cem", "dan", "dan", "dan", "dan"]


def test_the_owner_with_fewest_running_jobs_is_next(sessions, model_id):
    """With several workers the places are shared out: nobody gets a second one while another waits for a first."""
    for owner in ("dan", "dan", "dan", "bob", "bob", "cem"):
        queued_audit(sessions, model_id, owner=owner)
    taken = []
    for _ in range(6):
        with sessions.begin() as session:
            taken.append(lifecycle.claim_next(session, **WORKER).owner)
    assert taken == ["dan", "bob", "cem", "dan", "bob", "dan"]


def test_checks_of_uploads_come_first(sessions, model_id):
    """A check of an upload is taken before every other job, of whatever priority."""
    queued_audit(sessions, model_id, owner="ann", priority=10)
    with sessions.begin() as session:
        upload = Stored("0" * 64, 1, "application/zip")
        _, check = dataset_registry.register_upload(session, name="signs", upload=upload, owner="bob")
    with sessions.begin() as session:
        assert lifecycle.claim_next(session, **WORKER).id == check.id


def test_a_job_that_another_worker_is_taking_is_passed_over(sessions, model_id):
    """While another worker's claim is not committed yet, the next line is taken, or the next job of the same line."""
    if sessions.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    queued = [queued_audit(sessions, model_id, owner=owner) for owner in ("ann", "ann", "bob")]
    with sessions.begin() as first, sessions.begin() as second, sessions.begin() as third, sessions.begin() as fourth:
        taken = [lifecycle.claim_next(session, **WORKER) for session in (first, second, third, fourth)]
    assert sorted(job.id for job in taken[:3]) == sorted(queued)
    assert taken[3] is None
