"""Fixtures of the jobs tests."""

import pytest

from jobs.database import Sessions
from tests.job_steps import add_ready_model, queue_audit


@pytest.fixture
def model_id(sessions: Sessions) -> str:
    """Return the id of a model that can be used."""
    return add_ready_model(sessions)


@pytest.fixture
def job_id(sessions: Sessions, model_id: str) -> str:
    """Return the id of a queued audit of that model."""
    return queue_audit(sessions, model_id)
