"""The outcomes of images that are stored with reports: found with their job, counted, and removed with it."""

import pytest
from sqlalchemy import select

from jobs import artifacts, control, lifecycle, queries, quotas, removal
from jobs.errors import JobCancelled, JobFailed, JobNotFound, JobStateConflict, OutcomesNotFound, QuotaExceeded
from jobs.settings import Quota
from jobs.states import JobKind
from jobs.tables import Job, ReportOutcomes
from tests.job_steps import WORKER, claim_job, queue_audit, submit_job
from tests.storage_contents import read_contents

TYPE = "application/vnd.apache.parquet"


def finish_audit(sessions, storage, job_id, content: bytes) -> str:
    """Let the queued audit succeed with outcomes of that content, and return their digest."""
    stored = storage.put([content], media_type=TYPE)
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report="{}", outcomes={"outcomes.parquet": stored})
    return stored.sha256


def find(sessions, job_id, audit="after") -> str:
    """Return the digest of the outcomes of the job."""
    with sessions() as session:
        return queries.find_outcomes(session, job_id, audit).sha256


def test_an_audit_has_one_file_and_a_fine_tuning_two(sessions, storage, model_id, job_id):
    """The outcomes of the new weights are the default of a fine-tuning; an audit has its only file under either name."""
    digest = finish_audit(sessions, storage, job_id, b"audited")
    assert [find(sessions, job_id, audit) for audit in ("before", "after")] == [digest, digest]
    files = {name: storage.put([name.encode()], media_type=TYPE) for name in ("before", "after")}
    with sessions.begin() as session:
        job = submit_job(session, kind=JobKind.FINETUNE, model_id=model_id, dataset="mnist", spec={}, owner="ann")
        lifecycle.claim(session, job.id, **WORKER)
        outcomes = {f"outcomes-{name}.parquet": stored for name, stored in files.items()}
        lifecycle.succeed(session, job.id, 1, report="{}", outcomes=outcomes)
    assert {name: find(sessions, job.id, name) for name in files} == {name: one.sha256 for name, one in files.items()}
    with sessions() as session:
        assert queries.find_outcomes(session, job.id).sha256 == files["after"].sha256


def test_a_cancelled_audit_has_the_outcomes_so_far(sessions, storage, job_id):
    """The results so far of a cancelled audit include the outcomes of its images."""
    claim_job(sessions, job_id)
    stored = storage.put([b"so far"], media_type=TYPE)
    with sessions.begin() as session:
        control.cancel(session, job_id)
        lifecycle.cancel_running(session, job_id, 1, report="{}", outcomes={"outcomes.parquet": stored})
    assert find(sessions, job_id) == stored.sha256


def test_files_go_with_the_last_job_that_names_them(sessions, storage, model_id, job_id):
    """Equal outcomes of two jobs are one file, which a deletion of the first job leaves and one of the second removes."""
    other = queue_audit(sessions, model_id, seed=1)
    for one in (job_id, other):
        finish_audit(sessions, storage, one, b"equal")
    removal.collect(sessions, storage)  # the uploads of the model
    for one, contents in ((job_id, [b"equal"]), (other, [])):
        with sessions.begin() as session:
            removal.remove_job(session, one)
        removal.collect(sessions, storage)
        assert read_contents(storage) == contents
    with sessions() as session:
        assert session.scalars(select(ReportOutcomes)).all() == []


def test_old_jobs_go_with_their_outcomes(sessions, storage, job_id):
    """The removal of old jobs removes their outcomes too."""
    finish_audit(sessions, storage, job_id, b"old")
    removal.remove_old_jobs(sessions, days=0)
    removal.collect(sessions, storage)
    assert read_contents(storage) == []


def test_outcomes_count_as_files_of_their_owner(sessions, storage, job_id):
    """Their bytes count towards the quota of their owner alone."""
    with sessions.begin() as session:
        before = 1000 - (quotas.room_for_upload(session, "ann", Quota(bytes=1000)) or 0)
    finish_audit(sessions, storage, job_id, b"x" * 100)
    with sessions.begin() as session:
        assert quotas.room_for_upload(session, "ann", Quota(bytes=1000)) == 1000 - before - 100
        assert quotas.room_for_upload(session, "ben", Quota(bytes=1000)) == 1000
        with pytest.raises(QuotaExceeded):
            quotas.room_for_upload(session, "ann", Quota(bytes=before + 100))


def test_a_lost_file_names_its_job(sessions, storage, job_id):
    """The check of stored files lists outcomes that are missing, with the job whose report they belong to."""
    digest = finish_audit(sessions, storage, job_id, b"lost")
    storage.remove(digest)
    named = {lost.sha256: lost.named_by for lost in artifacts.check_files(sessions, storage)}
    assert named[digest] == (job_id,)


def test_other_owners_find_none(sessions, storage, job_id):
    """Another owner's sessions find neither the job nor its outcomes."""
    finish_audit(sessions, storage, job_id, b"mine")
    with sessions.for_owner("ben")() as session:
        with pytest.raises(JobNotFound):
            queries.find_outcomes(session, job_id)
        assert session.get(ReportOutcomes, (job_id, "outcomes.parquet")) is None
    with sessions.for_owner("ann")() as session:
        assert queries.find_outcomes(session, job_id).owner == "ann"


def test_jobs_without_outcomes_say_why(sessions, storage, model_id, job_id):
    """A job that has not ended, failed or was cancelled, an older report and a job that audits nothing have their own errors."""
    with sessions() as session:
        check = session.scalars(select(Job.id).where(Job.kind == JobKind.CHECK_MODEL)).one()
    with pytest.raises(JobStateConflict, match="audits no images"):
        find(sessions, check)
    with pytest.raises(JobStateConflict, match="queued, and has no report"):
        find(sessions, job_id)
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report="{}")
    with pytest.raises(OutcomesNotFound, match="before FAAL stored"):
        find(sessions, job_id)
    failed, cancelled = (queue_audit(sessions, model_id, seed=seed) for seed in (1, 2))
    claim_job(sessions, failed)
    with sessions.begin() as session:
        lifecycle.fail(session, failed, 1, code="internal-error", message="A defect.")
        control.cancel(session, cancelled)
    for one, error in ((failed, JobFailed), (cancelled, JobCancelled)):
        with pytest.raises(error):
            find(sessions, one)
