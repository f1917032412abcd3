"""Studies: all jobs or none, one study for a key, retries, cancellation and deletion."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from faal_core.specs import FinetuneSpec
from jobs import control, lifecycle, removal, studies
from jobs.database import open_database
from jobs.errors import IdempotencyConflict, ModelNotFound, QuotaExceeded, StudyNotFound
from jobs.states import FINAL, JobKind, JobState
from jobs.study_tables import Study, StudyRun
from jobs.submission import Submission
from jobs.tables import Job
from tests.job_steps import SITE, claim_job, load_job, queue_audit

METHODS = [{"type": "faal"}, {"type": "uniform"}]
SEEDS = [3, 1]


def add_study(sessions, model_id, *, site=SITE, owner="ann", methods=METHODS, key=None) -> str:
    """Add a study of the methods with two seeds, and return its id."""
    specs = [
        FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "method": method, "training": {"seed": seed}})
        for method in methods
        for seed in SEEDS
    ]
    new = studies.NewStudy(
        name="rivals",
        methods=methods,
        seeds=SEEDS,
        idempotency_key=key,
        fine_tunings=[
            Submission(
                kind=JobKind.FINETUNE,
                model_id=model_id,
                dataset="fashion-mnist-subset",
                spec=spec.model_dump(mode="json"),
                metadata={"ticket": "7"},
                owner=owner,
            )
            for spec in specs
        ],
    )
    with sessions.for_owner(owner).begin() as session:
        return studies.add_study(session, site, new).id


def load_runs(sessions, study_id) -> list[tuple[StudyRun, Job | None]]:
    """Return the study's runs with their jobs."""
    with sessions() as session:
        return studies.list_runs(session, study_id)


def count_fine_tunings(sessions) -> int:
    """Return the number of fine-tunings in the table."""
    with sessions() as session:
        return session.scalars(select(func.count(Job.id)).where(Job.kind == JobKind.FINETUNE)).one()


def test_a_study_has_a_job_for_each_method_and_seed(sessions, model_id):
    """Each job has its method, its seed, the metadata of the request and the id of the study."""
    study_id = add_study(sessions, model_id)
    rows = load_runs(sessions, study_id)
    assert [(run.method, run.seed) for run, _ in rows] == [(0, 1), (0, 3), (1, 1), (1, 3)]
    for run, job in rows:
        assert (job.state, job.metadata_) == (JobState.QUEUED, {"ticket": "7", "study": study_id})
        assert job.spec["method"]["type"] == METHODS[run.method]["type"]
        assert job.spec["training"]["seed"] == run.seed


def test_all_jobs_are_submitted_or_none(sessions, model_id):
    """A quota with room for three jobs, or an unknown model, refuses a study of four, and leaves neither study nor job."""
    for refused, model, quota in ((QuotaExceeded, model_id, 3), (ModelNotFound, "model_0", 4)):
        with pytest.raises(refused) as caught:
            add_study(sessions, model, site=SITE.model_copy(update={"quota_jobs": quota}))
        if refused is QuotaExceeded:
            assert "You have 0 jobs that have not ended and request 4 more; the limit is 3." in str(caught.value)
        with sessions() as session:
            assert session.scalars(select(Study.id)).all() == session.scalars(select(StudyRun.job_id)).all() == []
        assert count_fine_tunings(sessions) == 0
    add_study(sessions, model_id, site=SITE.model_copy(update={"quota_jobs": 4}))
    assert count_fine_tunings(sessions) == 4


def test_a_key_creates_one_study(sessions, model_id):
    """The same request with the same key returns the first study; another request with this key, or that of a job, is refused."""
    first, second = (add_study(sessions, model_id, key="rivals-1") for _ in range(2))
    assert (first == second, count_fine_tunings(sessions)) == (True, 4)
    with pytest.raises(IdempotencyConflict, match=first):
        add_study(sessions, model_id, key="rivals-1", methods=METHODS[:1])
    with pytest.raises(IdempotencyConflict, match=first):
        queue_audit(sessions, model_id, key="rivals-1")
    audit = queue_audit(sessions, model_id, key="audit-1")
    with pytest.raises(IdempotencyConflict, match=audit):
        add_study(sessions, model_id, key="audit-1")


def test_cancelling_ends_the_jobs_that_have_not_ended(sessions, model_id):
    """A job that failed stays failed, a queued one is cancelled at once, and a running one is asked to stop; a retry rejoins."""
    study_id = add_study(sessions, model_id)
    failed, running, *waiting = (run.job_id for run, _ in load_runs(sessions, study_id))
    claim_job(sessions, failed)
    claim_job(sessions, running)
    with sessions.begin() as session:
        lifecycle.fail(session, failed, 1, code="out-of-memory", message="Full.")
    for _ in range(2):
        with sessions.begin() as session:
            studies.cancel(session, study_id)
    assert [load_job(sessions, job).state for job in (failed, *waiting)] == ["failed", "cancelled", "cancelled"]
    assert load_job(sessions, running).cancel_requested
    with sessions.begin() as session:
        retried = control.retry(session, SITE, failed, owner="ann").id
    assert [run.job_id for run, _ in load_runs(sessions, study_id)] == [retried, running, *waiting]


def test_a_deleted_study_leaves_its_jobs_and_a_deleted_job_its_run(sessions, model_id):
    """A deleted job is counted as deleted; the jobs of a deleted study continue."""
    study_id = add_study(sessions, model_id)
    runs = load_runs(sessions, study_id)
    with sessions.begin() as session:
        control.cancel(session, runs[0][0].job_id)
        removal.remove_job(session, runs[0][0].job_id)
    with sessions() as session:
        assert studies.count_states(session, [study_id]) == {study_id: {None: 1, JobState.QUEUED: 3}}
    assert [job is None for _, job in load_runs(sessions, study_id)] == [True, False, False, False]
    with sessions.begin() as session:
        studies.remove_study(session, study_id)
    with sessions() as session, pytest.raises(StudyNotFound, match=study_id):
        studies.find_study(session, study_id)
    assert load_job(sessions, runs[1][0].job_id).state not in FINAL


def test_a_study_is_removed_once(database_url, sessions, model_id):
    """Of four deletions at the same moment, three do not find the study."""
    study_id, gate = add_study(sessions, model_id), Barrier(4)

    def remove(_: int) -> bool:
        own = open_database(database_url, pooled=False)
        gate.wait()
        try:
            with own.begin() as session:
                studies.remove_study(session, study_id)
        except StudyNotFound:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(remove, range(4))) == 1


def test_studies_of_others_do_not_exist(sessions, model_id):
    """Another owner neither finds nor cancels nor removes the study."""
    study_id = add_study(sessions, model_id)
    for act in (studies.find_study, studies.cancel, studies.remove_study):
        with sessions.for_owner("ben").begin() as session, pytest.raises(StudyNotFound):
            act(session, study_id)
    assert load_job(sessions, load_runs(sessions, study_id)[0][0].job_id).state is JobState.QUEUED
