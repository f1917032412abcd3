"""Fixtures of the worker's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import lifecycle
from jobs.database import Sessions
from jobs.storage import Storage
from tests.job_steps import add_ready_model, queue_audit
from worker.checkpoint import Checkpoint


@pytest.fixture
def queued_job(sessions: Sessions) -> str:
    """Return the id of a queued audit."""
    return queue_audit(sessions, add_ready_model(sessions))


@pytest.fixture
def running_job(sessions: Sessions, queued_job: str) -> str:
    """Return the id of an audit in its first attempt."""
    with sessions.begin() as session:
        lifecycle.claim(session, queued_job, worker="here:1", lease_seconds=60)
    return queued_job


@pytest.fixture
def open_checkpoint(sessions: Sessions, storage: Storage, tmp_path: Path) -> Callable[..., Checkpoint]:
    """Return the checkpoint of an attempt that holds its job, in the folder of a machine, with one storage for all machines."""

    def open_for(job_id: str, attempt: int = 1, machine: str = "here", seconds: float = 60) -> Checkpoint:
        with sessions.begin() as session:
            job = lifecycle.lock_leased_job(session, job_id, attempt)
        folder = tmp_path / machine
        folder.mkdir(exist_ok=True)
        return Checkpoint(job, folder, storage, sessions, seconds)

    return open_for
