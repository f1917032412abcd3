"""Comparisons of jobs: which jobs can be compared, and how long these are kept."""

import pytest
from sqlalchemy import Result, event
from sqlalchemy.orm import ORMExecuteState

from faal_core.errors import InvalidSpec
from jobs import control, lifecycle, queries, removal
from jobs.errors import IdempotencyConflict, InUse, JobNotFound, JobStateConflict, QuotaExceeded
from jobs.settings import Quota
from jobs.states import JobKind, JobState
from tests.job_steps import SITE, WORKER, add_ready_model, claim_job, load_job, queue_audit, submit_job
from tests.sample_reports import sample_audit, sample_finetune

REPORT = sample_audit(images=20).model_dump_json()


@pytest.fixture
def audits(sessions, model_id) -> list[str]:
    """Return the ids of two audits that have succeeded."""
    return [finish(sessions, queue_audit(sessions, model_id, seed=seed)) for seed in (1, 2)]


def finish(sessions, job_id, report=REPORT) -> str:
    """Let the queued job succeed with that report, and return its id."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report=report)
    return job_id


def compare(sessions, job_ids, *, owner="ann", **fields) -> str:
    """Submit a comparison, and return its id."""
    with sessions.for_owner(owner).begin() as session:
        return submit_job(session, kind=JobKind.COMPARE, spec={"jobs": job_ids}, owner=owner, **fields).id


def test_a_comparison_is_a_job_without_model_and_data(sessions, audits):
    """The queued job names the compared jobs; its end stores a report."""
    comparison = compare(sessions, audits, metadata={"pull": "7"})
    job = load_job(sessions, comparison)
    assert (job.kind, job.state, job.model_id, job.dataset) == (JobKind.COMPARE, JobState.QUEUED, None, None)
    assert (job.spec, job.metadata_) == ({"jobs": audits}, {"pull": "7"})
    finish(sessions, comparison, "{}")
    with sessions() as session:
        assert queries.find_report(session, comparison).document == "{}"


def test_only_audits_that_have_succeeded_are_compared(sessions, model_id, audits):
    """A job that waits, was cancelled, or audits nothing, and a job that does not exist, are refused by name."""
    waiting, cancelled = (queue_audit(sessions, model_id, seed=seed) for seed in (3, 4))
    with sessions.begin() as session:
        control.cancel(session, cancelled)
    comparison = finish(sessions, compare(sessions, audits), "{}")
    for wrong in (waiting, cancelled, comparison):
        with pytest.raises(JobStateConflict, match=wrong):
            compare(sessions, [audits[0], wrong])
    with pytest.raises(JobNotFound, match="job_0"):
        compare(sessions, [audits[0], "job_0"])


def test_jobs_of_others_do_not_exist(sessions, audits):
    """A job of another owner is answered as if it did not exist."""
    add_ready_model(sessions, "ben")
    with pytest.raises(JobNotFound):
        compare(sessions, audits, owner="ben")


def test_two_audits_with_other_attacks_are_refused_and_more_are_listed(sessions, model_id, audits):
    """The submission of two audits with different attacks is refused; three are accepted, since a table states the attacks."""
    weaker = sample_audit(images=20, attacks="quick").model_dump_json()
    other = finish(sessions, queue_audit(sessions, model_id, seed=3), weaker)
    with pytest.raises(InvalidSpec, match="different attacks"):
        compare(sessions, [audits[0], other])
    assert load_job(sessions, compare(sessions, [*audits, other])).spec == {"jobs": [*audits, other]}


def test_a_fine_tuning_is_compared_by_its_new_weights(sessions, model_id, audits):
    """A fine-tuning can be compared with an audit: its audit after the training has the same attacks."""
    with sessions.begin() as session:
        job = submit_job(session, kind=JobKind.FINETUNE, model_id=model_id, dataset="mnist", spec={}, owner="ann")
    finetuning = finish(sessions, job.id, sample_finetune().model_dump_json())
    assert load_job(sessions, compare(sessions, [audits[0], finetuning])).state is JobState.QUEUED


def test_compared_jobs_are_kept_until_the_comparison_has_ended(sessions, audits):
    """A compared job can be deleted neither by request nor as an old one, until the comparison has ended."""
    comparison = compare(sessions, audits)
    with sessions.begin() as session, pytest.raises(InUse, match="comparison"):
        removal.remove_job(session, audits[0])
    assert removal.remove_old_jobs(sessions, days=0) == 1  # the check of the model
    assert load_job(sessions, audits[1]).state is JobState.SUCCEEDED
    with sessions.begin() as session:
        control.cancel(session, comparison)
        removal.remove_job(session, audits[0])
    assert removal.remove_old_jobs(sessions, days=0) == 2  # the other audit and the comparison


def test_a_job_that_is_compared_during_a_sweep_is_kept(sessions, audits):
    """A comparison that is submitted after the search for old jobs, and before their lock, keeps the jobs that it needs."""

    def compare_after(search: ORMExecuteState) -> Result | None:
        if not waiting:
            return None
        waiting.clear()
        result = search.invoke_statement().freeze()
        submit_job(search.session, kind=JobKind.COMPARE, spec={"jobs": audits}, owner="ann")
        return result()

    waiting = [True]
    event.listen(sessions, "do_orm_execute", compare_after)
    assert removal.remove_old_jobs(sessions, days=0) == 1  # the check of the model
    assert [load_job(sessions, one).state for one in audits] == [JobState.SUCCEEDED] * 2


def test_a_comparison_can_be_retried(sessions, audits):
    """A cancelled comparison is submitted again by a retry, which names it."""
    first = compare(sessions, audits)
    with sessions.begin() as session:
        control.cancel(session, first)
        again = control.retry(session, SITE, first, owner="ann")
    assert (again.kind, again.spec, again.retry_of) == (JobKind.COMPARE, {"jobs": audits}, first)


def test_a_repeated_request_makes_one_comparison(sessions, audits):
    """The same idempotency key gives the same job, and is refused for other jobs."""
    first = compare(sessions, audits, idempotency_key="k")
    assert compare(sessions, audits, idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        compare(sessions, audits[::-1], idempotency_key="k")


def test_comparisons_count_as_jobs(sessions, audits):
    """An owner who may have no further job cannot compare; a quota of bytes that is used up does not matter."""
    with sessions.begin() as session:
        submit_job(session, Quota(bytes=1), kind=JobKind.COMPARE, spec={"jobs": audits}, owner="ann")
        with pytest.raises(QuotaExceeded):
            submit_job(session, Quota(jobs=1), kind=JobKind.COMPARE, spec={"jobs": audits}, owner="ann")


def test_a_comparison_is_claimed_before_long_jobs(sessions, model_id, audits):
    """A comparison is short, so it is claimed before a fine-tuning or an audit of higher priority."""
    queue_audit(sessions, add_ready_model(sessions, "bob"), owner="bob", seed=5, priority=9)
    comparison = compare(sessions, audits)
    with sessions.begin() as session:
        assert lifecycle.claim_next(session, **WORKER).id == comparison
