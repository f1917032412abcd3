"""The service adds its ids to the report of an audit, and whether an earlier attempt had started it."""

import pytest

from jobs.tables import Job
from tests.sample_reports import sample_audit
from worker.assignment import identify


@pytest.mark.parametrize(
    ("attempt", "resumed", "expected"), [(1, False, False), (2, False, True), (1, True, True), (1, None, None)]
)
def test_a_later_attempt_is_of_a_resumed_audit(attempt: int, resumed: bool | None, expected: bool | None) -> None:
    """An audit was resumed if its ledger says so, or if its job had an earlier attempt, whose ledger may be lost."""
    report = sample_audit().model_copy(update={"resumed": resumed})
    identified = identify(report, Job(id="job_1", attempt=attempt), model_id="model_1")
    assert identified.provenance is not None
    assert (identified.provenance.job_id, identified.provenance.model_id) == ("job_1", "model_1")
    assert identified.resumed is expected
