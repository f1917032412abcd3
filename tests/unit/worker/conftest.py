"""Fixtures of the worker's tests."""

import pytest

from jobs import lifecycle
from jobs.database import Sessions
from tests.registered import queued_audit, ready_model


@pytest.fixture
def queued_job(sessions: Sessions) -> str:
    """Id of a queued audit."""
    return queued_audit(sessions, ready_model(sessions))


@pytest.fixture
def running_job(sessions: Sessions, queued_job: str) -> str:
    """Id of an audit in its first attempt."""
    with sessions.begin() as session:
        lifecycle.claim(session, queued_job, worker="here:1", lease_seconds=60)
    return queued_job
