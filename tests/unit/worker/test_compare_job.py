"""The comparison job: it reads the stored reports and outcomes of other jobs, and runs no model."""

from pathlib import Path

import pytest
from sqlalchemy import delete

from faal_core.errors import InvalidSpec
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.outcomes import PARQUET_TYPE
from faal_core.results.reading import StoredAudit, read_any_report
from jobs import lifecycle, queries
from jobs.errors import FileLost
from jobs.states import JobKind
from jobs.tables import Artifact, Report
from tests.job_steps import WORKER, add_ready_model, claim_job, queue_audit, submit_job
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, sample_finetune, sample_outcomes
from worker import compare_job
from worker.assignment import Assignment
from worker.progress import JobProgress

IMAGES = 60
BEFORE = sample_outcomes(robust=ROBUST_BEFORE, images=IMAGES, seed=1)
AFTER = sample_outcomes(robust=ROBUST_AFTER, images=IMAGES, seed=2)


@pytest.fixture
def site(settings, sessions, storage, open_checkpoint, tmp_path, monkeypatch):
    """Return a function that compares jobs as a worker does, and one that stores an audit's report with its outcomes."""
    monkeypatch.setattr("worker.inputs.open_storage", lambda *_, **__: storage)
    model = add_ready_model(sessions)

    def store_audit(pair, name="outcomes.parquet") -> str:
        report, outcomes = pair
        job_id = queue_audit(sessions, model, seed=len(list(tmp_path.iterdir())))
        stored = {}
        if outcomes is not None:
            outcomes.write(tmp_path / f"{job_id}.parquet", report)
            stored = {name: storage.put_file(tmp_path / f"{job_id}.parquet", media_type=PARQUET_TYPE)}
        claim_job(sessions, job_id)
        with sessions.begin() as session:
            lifecycle.succeed(session, job_id, 1, report=report.model_dump_json(), outcomes=stored)
        return job_id

    def compare(*job_ids: str):
        with sessions.begin() as session:
            job = submit_job(session, kind=JobKind.COMPARE, spec={"jobs": list(job_ids)}, owner="ann")
            lifecycle.claim(session, job.id, **WORKER)
        checkpoint = open_checkpoint(job.id)
        progress = JobProgress(sessions, job.id, 1, checkpoint)
        return Assignment(job, settings, sessions, tmp_path / "here", progress, checkpoint)

    return store_audit, compare


def result(assignment: Assignment):
    """Return the report that the job makes."""
    return read_any_report(compare_job.run(assignment).report)


def timeless(report: ComparisonReport) -> str:
    """Return the report without its time."""
    return report.model_dump_json(exclude={"created_at"})


def test_two_audits_are_compared_image_by_image(site):
    """The report equals that of the library on the same reports and outcomes; the first job is the earlier one."""
    store_audit, compare = site
    report = result(compare(store_audit(BEFORE), store_audit(AFTER)))
    assert report.pairing == "paired"
    assert timeless(report) == timeless(compare_audits(StoredAudit(*BEFORE), StoredAudit(*AFTER)))


def test_older_reports_are_compared_by_their_counts(site):
    """A report without stored outcomes is compared nevertheless, and the reason is given."""
    store_audit, compare = site
    older = (BEFORE[0].model_copy(update={"outcomes_sha256": ""}), None)
    report = result(compare(store_audit(older), store_audit(AFTER)))
    assert report.pairing == "two-sample"
    assert "not stored" in report.reason


def test_three_audits_make_a_table(site):
    """More than two audits are listed; the report is a table of models."""
    store_audit, compare = site
    report = result(compare(store_audit(BEFORE), store_audit(AFTER), store_audit(BEFORE)))
    assert isinstance(report, ModelTable)
    assert len(report.audits) == 3


def test_a_fine_tuning_is_compared_by_its_new_weights(site, sessions):
    """Of a fine-tuning the audit of its new weights is compared."""
    store_audit, compare = site
    with sessions.begin() as session:
        model = queries.find_job(session, store_audit(BEFORE)).model_id
    with sessions.begin() as session:
        job = submit_job(session, kind=JobKind.FINETUNE, model_id=model, dataset="mnist", spec={}, owner="ann")
        lifecycle.claim(session, job.id, **WORKER)
        lifecycle.succeed(session, job.id, 1, report=sample_finetune().model_dump_json())
    report = result(compare(store_audit(BEFORE), job.id))
    assert report.after.robust == sample_finetune().after.robust


def test_what_is_gone_ends_the_comparison(site, sessions, storage):
    """A file that is lost, or a report that was removed, ends the job with an error that its owner can act on."""
    store_audit, compare = site
    first, second = store_audit(BEFORE), store_audit(AFTER)
    assignment = compare(first, second)
    with sessions() as session:
        digest = queries.find_outcomes(session, second).sha256
    storage.remove(digest)
    with pytest.raises(FileLost):
        compare_job.run(assignment)
    with sessions() as session:
        assert session.get(Artifact, digest).lost_at is not None
    with sessions.begin() as session:
        session.execute(delete(Report).where(Report.job_id == first))
    with pytest.raises(InvalidSpec, match="was removed"):
        compare_job.run(assignment)


def test_the_outcomes_of_another_audit_are_refused(site, sessions, storage, tmp_path: Path):
    """Outcomes that do not have the digest in the report end the job, instead of a test on the wrong images."""
    store_audit, compare = site
    wrong = (AFTER[0], BEFORE[1])
    with pytest.raises(InvalidSpec, match="of another audit"):
        compare_job.run(compare(store_audit(BEFORE), store_audit(wrong)))
