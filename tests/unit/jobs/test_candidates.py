"""Models of a fine-tuning's candidates: made once, from weights that are kept as long as they are needed."""

from typing import Any

import pytest
from sqlalchemy import Result, event, update
from sqlalchemy.orm import ORMExecuteState

from jobs import candidates, control, lifecycle, model_registry, queries, removal
from jobs.errors import CandidateNotFound, InUse, JobStateConflict, ModelNotReady, QuotaExceeded
from jobs.results import StoredClassifier
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind, JobState, UploadState
from jobs.storage import StoredFile
from jobs.submission import require_model_ready
from jobs.tables import Artifact, Model
from tests.job_steps import SPEC, WEIGHTS_SHA256, WORKER, load_job, submit_job
from tests.sample_reports import sample_finetune

REPORT = sample_finetune().model_copy(update={"selected_candidate": 3}).model_dump_json()
RESULT = StoredFile("c" * 64, 6, "application/vnd.safetensors")
TRAINED = StoredFile("d" * 64, 7, "application/vnd.safetensors")
MADE = StoredFile("e" * 64, 8, "application/vnd.safetensors")


def finish_finetuning(sessions, model_id, *, trained_weights=TRAINED, report=REPORT) -> str:
    """Return the id of a fine-tuning of that model that has succeeded; it kept its fourth candidate."""
    with sessions.begin() as session:
        job = submit_job(
            session, kind=JobKind.FINETUNE, model_id=model_id, dataset="fashion-mnist-subset", spec={}, owner="ann"
        )
        lifecycle.claim(session, job.id, **WORKER)
        result = StoredClassifier(RESULT, SPEC, WEIGHTS_SHA256, name="digits + faal")
        lifecycle.succeed(session, job.id, 1, report=report, result_model=result, trained=trained_weights)
        return job.id


def ask_for_candidate(sessions, job_id, number, quota=NO_QUOTA):
    """Request the candidate, and return the ids of its model and of the job that makes it."""
    with sessions.begin() as session:
        model, job = candidates.make_model(session, job_id, number, quota=quota)
        return model.id, None if job is None else job.id


def make_candidate(sessions, job_id, number) -> str:
    """Make the candidate's model as a worker does, and return its id."""
    model, making = ask_for_candidate(sessions, job_id, number)
    with sessions.begin() as session:
        lifecycle.claim(session, making, **WORKER)
        lifecycle.succeed(session, making, 1, result_model=StoredClassifier(MADE, SPEC, WEIGHTS_SHA256))
    return model


def test_a_candidate_waits_for_its_job_and_is_ready_after_it(sessions, model_id):
    """The model names its job and candidate, and refers to the trained weights until its own exist."""
    finetuning = finish_finetuning(sessions, model_id)
    model, making = ask_for_candidate(sessions, finetuning, 1)
    job = load_job(sessions, making)
    assert (job.kind, job.state, job.model_id) == (JobKind.MAKE_CANDIDATE, JobState.QUEUED, model)
    assert job.spec == {"job": finetuning, "candidate": 1}
    with sessions() as session:
        row = model_registry.find_model(session, model)
    assert (row.state, row.parent_model_id, row.parent_job_id) == (UploadState.VALIDATING, model_id, finetuning)
    assert (row.candidate, row.upload_sha256, row.name) == (1, TRAINED.sha256, "digits + faal, candidate 1")
    with sessions.begin() as session:
        lifecycle.claim(session, making, **WORKER)
        lifecycle.succeed(session, making, 1, result_model=StoredClassifier(MADE, SPEC, WEIGHTS_SHA256))
    with sessions() as session:
        row = model_registry.find_model(session, model)
        assert [one.id for one in model_registry.list_lineage(session, model).data] == [model, model_id]
    assert (row.state, row.sha256, row.upload_sha256) == (UploadState.READY, MADE.sha256, None)


def test_a_candidate_is_made_once(sessions, model_id):
    """A repeated request gets the same model, during its job and after; a rejected or deleted model is made again."""
    finetuning = finish_finetuning(sessions, model_id)
    model, making = ask_for_candidate(sessions, finetuning, 1)
    assert ask_for_candidate(sessions, finetuning, 1) == (model, None)
    assert ask_for_candidate(sessions, finetuning, 2)[0] != model
    with sessions.begin() as session:
        control.cancel(session, making)
    again = make_candidate(sessions, finetuning, 1)
    assert again != model
    assert ask_for_candidate(sessions, finetuning, 1) == (again, None)
    with sessions.begin() as session:
        removal.remove_model(session, again)
    assert ask_for_candidate(sessions, finetuning, 1)[0] not in (model, again)


def test_the_given_weights_and_those_that_were_kept_are_there_already(sessions, model_id):
    """Candidate 0 is the given model, and the kept candidate is the job's result."""
    finetuning = finish_finetuning(sessions, model_id)
    assert ask_for_candidate(sessions, finetuning, 0) == (model_id, None)
    assert ask_for_candidate(sessions, finetuning, 3) == (load_job(sessions, finetuning).result_model_id, None)


def test_the_candidate_that_older_reports_kept_is_the_jobs_result(sessions, model_id):
    """A report that does not number the kept candidate has it where its interpolation and offsets equal those of the result."""
    older = sample_finetune()
    assert (older.selected_candidate, older.selected_interpolation) == (None, 0.75)
    assert candidates.selected_candidate(older) == 3
    assert candidates.selected_candidate(older.model_copy(update={"selected_offset_scale": 0.5})) is None
    finetuning = finish_finetuning(sessions, model_id, report=older.model_dump_json())
    assert ask_for_candidate(sessions, finetuning, 3) == (load_job(sessions, finetuning).result_model_id, None)


def test_models_can_be_made_while_what_they_are_made_of_is_there(sessions, model_id, job_id):
    """No candidate can be made without the trained weights, nor once the given model was deleted."""
    whole, earlier = finish_finetuning(sessions, model_id), finish_finetuning(sessions, model_id, trained_weights=None)

    def makeable() -> list[bool]:
        with sessions() as session:
            return [candidates.can_make(session, queries.find_job(session, one)) for one in (whole, earlier)]

    assert makeable() == [True, False]
    with sessions.begin() as session:
        control.cancel(session, job_id)
        removal.remove_model(session, model_id)
    assert makeable() == [False, False]


def test_a_given_model_that_is_deleted_meanwhile_is_refused(sessions, model_id):
    """The state of the given model is read again under the lock, so a deletion by another session in between is noticed."""
    with sessions.begin() as session:
        read = session.get_one(Model, model_id)
        session.connection().execute(update(Model.__table__).values(state="deleted"))  # as another transaction's commit
        with pytest.raises(ModelNotReady, match="was deleted"):
            require_model_ready(session, read.id)


def test_a_cancelled_candidate_can_be_asked_for_again(sessions, model_id):
    """The model of a cancelled job gives its reader a next step other than a new upload, which is impossible here."""
    model, making = ask_for_candidate(sessions, finish_finetuning(sessions, model_id), 1)
    with sessions.begin() as session:
        control.cancel(session, making)
    with sessions() as session:
        row = model_registry.find_model(session, model)
    assert row.state is UploadState.REJECTED
    assert row.error == {
        "code": "job-cancelled",
        "message": "The job that made this candidate was cancelled. Ask for the candidate again.",
    }


def test_a_candidate_that_is_asked_for_during_a_sweep_keeps_its_job_alone(sessions, model_id, job_id):
    """Old jobs are removed although one of the same batch is needed by a candidate that was requested after their search."""
    finetuning = finish_finetuning(sessions, model_id)
    with sessions.begin() as session:
        control.cancel(session, job_id)

    def ask_after(search: ORMExecuteState) -> Result[Any] | None:
        if not waiting:
            return None
        waiting.clear()
        result = search.invoke_statement().freeze()
        candidates.make_model(search.session, finetuning, 1, quota=NO_QUOTA)
        return result()

    waiting = [finetuning]
    event.listen(sessions, "do_orm_execute", ask_after)
    assert removal.remove_old_jobs(sessions, days=0) == 2  # the check of the given model and the cancelled audit
    assert waiting == []
    assert load_job(sessions, finetuning).state is JobState.SUCCEEDED


def test_what_has_no_candidates_is_refused(sessions, model_id, job_id):
    """A job that is no finished fine-tuning, a number beyond the report's, and weights that were not kept are refused."""
    finetuning = finish_finetuning(sessions, model_id)
    with pytest.raises(JobStateConflict, match="Choose a fine-tuning that has succeeded"):
        ask_for_candidate(sessions, job_id, 0)
    with pytest.raises(CandidateNotFound, match="candidates 0 to 4"):
        ask_for_candidate(sessions, finetuning, 5)
    with pytest.raises(JobStateConflict, match="were not stored"):
        ask_for_candidate(sessions, finish_finetuning(sessions, model_id, trained_weights=None), 1)
    without_bounds = sample_finetune(validated=False).model_dump_json()
    with pytest.raises(JobStateConflict, match="sets no bounds"):
        ask_for_candidate(sessions, finish_finetuning(sessions, model_id, report=without_bounds), 0)
    with pytest.raises(QuotaExceeded):
        ask_for_candidate(sessions, finetuning, 1, quota=Quota(bytes=1))
    with sessions.begin() as session:
        control.cancel(session, job_id)
        removal.remove_model(session, model_id)
    with pytest.raises(ModelNotReady, match="was deleted"):
        ask_for_candidate(sessions, finetuning, 1)


def test_what_a_candidate_is_made_from_cannot_be_deleted_meanwhile(sessions, storage, model_id, job_id):
    """The given model and the fine-tuning are kept until the candidate exists; the trained weights as long as their job."""
    finetuning = finish_finetuning(sessions, model_id)
    with sessions.begin() as session:
        control.cancel(session, job_id)
    _, making = ask_for_candidate(sessions, finetuning, 1)
    for remove, id_in_use in ((removal.remove_model, model_id), (removal.remove_job, finetuning)):
        with sessions.begin() as session, pytest.raises(InUse):
            remove(session, id_in_use)
    assert removal.remove_old_jobs(sessions, days=0) == 2  # the check of the given model and the cancelled audit
    with sessions.begin() as session:
        lifecycle.claim(session, making, **WORKER)
        lifecycle.succeed(session, making, 1, result_model=StoredClassifier(MADE, SPEC, WEIGHTS_SHA256))
    removal.collect(sessions, storage)
    with sessions() as session:
        assert session.get(Artifact, TRAINED.sha256) is not None
    assert removal.remove_old_jobs(sessions, days=0) == 2
    removal.collect(sessions, storage)
    with sessions() as session:
        assert session.get(Artifact, TRAINED.sha256) is None
        assert session.get(Artifact, MADE.sha256) is not None
