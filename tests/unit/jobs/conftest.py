"""Fixtures of the jobs tests."""

import pytest

from jobs.database import Sessions
from tests.registered import queued_audit, ready_model


@pytest.fixture
def model_id(sessions: Sessions) -> str:
    """Id of a model that can be used."""
    return ready_model(sessions)


@pytest.fixture
def job_id(sessions: Sessions, model_id: str) -> str:
    """Id of a queued audit of that model."""
    return queued_audit(sessions, model_id)
