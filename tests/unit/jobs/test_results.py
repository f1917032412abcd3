"""The results of jobs: reports, models, and uploads that become ready or rejected."""

from contextlib import suppress

import pytest

from jobs import control, dataset_registry, lifecycle, model_registry, queries
from jobs.errors import DatasetNotReady, ModelNotReady
from jobs.results import StoredClassifier
from jobs.states import JobKind, UploadState
from jobs.storage import StoredFile
from jobs.tables import Artifact
from tests.job_steps import SPEC, UPLOAD, WEIGHTS, WEIGHTS_SHA256, queue_audit, submit_job

SUMMARY = {"class_names": ["0", "1"], "shape": [1, 8, 8], "images": {"test": 4}}


@pytest.fixture
def upload(sessions):
    """Return a model that is being validated and the claimed job that checks it."""
    with sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="digits", spec=SPEC, upload=UPLOAD, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
    return model.id, check.id


@pytest.fixture
def dataset_upload(sessions):
    """Return a data set that is being validated and the claimed job that checks it."""
    with sessions.begin() as session:
        dataset, check = dataset_registry.register_upload(session, name="signs", upload=UPLOAD, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
    return dataset.id, check.id


def test_an_upload_waits(sessions, upload):
    """An uploaded model is `validating` and keeps its spec until its check has ended."""
    with sessions() as session:
        model, job = model_registry.find_model(session, upload[0]), queries.find_job(session, upload[1])
    assert (model.state, model.sha256, model.upload_sha256) == (UploadState.VALIDATING, None, UPLOAD.sha256)
    assert model.spec == SPEC.model_dump(mode="json")
    assert (job.kind, job.model_id, job.spec) == (JobKind.CHECK_MODEL, model.id, model.spec)


def test_a_checked_model_is_ready(sessions, upload):
    """When its check succeeds the model is ready, with the converted file and the spec the check found."""
    spec = SPEC.model_copy(update={"arguments": {"width": 8}})
    with sessions.begin() as session:
        lifecycle.succeed(session, upload[1], 1, result_model=StoredClassifier(WEIGHTS, spec, WEIGHTS_SHA256))
    with sessions() as session:
        model = model_registry.find_model(session, upload[0])
        row = session.get(Artifact, WEIGHTS.sha256)
    assert (model.state, model.sha256, model.spec["arguments"]) == (UploadState.READY, WEIGHTS.sha256, {"width": 8})
    assert model.weights_sha256 == WEIGHTS_SHA256
    assert StoredFile(row.sha256, row.size, row.media_type) == WEIGHTS


@pytest.mark.parametrize("end", ["fail", "crash", "cancel", "cancel-waiting"])
def test_a_model_without_a_check_is_rejected(sessions, upload, end):
    """Any end of a check except success rejects the model with a reason, and jobs for it are refused with this reason."""
    model_id, job_id = upload
    with sessions.begin() as session:
        if end == "fail":
            lifecycle.fail(session, job_id, 1, code="weights-unreadable", message="It is a picture.")
        elif end == "crash":
            lifecycle.release(session, job_id, 1, reason="out-of-memory", max_attempts=1)
        elif end == "cancel":
            control.cancel(session, job_id)
            lifecycle.cancel_running(session, job_id, 1)
        else:
            lifecycle.release(session, job_id, 1, reason="worker-stopped")
            control.cancel(session, job_id)
    codes = {
        "fail": "weights-unreadable",
        "crash": "out-of-memory",
        "cancel": "job-cancelled",
        "cancel-waiting": "job-cancelled",
    }
    with sessions() as session:
        model = model_registry.find_model(session, model_id)
    assert (model.state, model.error["code"]) == (UploadState.REJECTED, codes[end])
    with pytest.raises(ModelNotReady, match="was rejected: " + model.error["message"][:10]):
        queue_audit(sessions, model_id)


def test_a_released_check_leaves_the_upload_waiting(sessions, upload):
    """A check that goes back to the queue leaves the model as it is."""
    with sessions.begin() as session:
        lifecycle.release(session, upload[1], 1, reason="worker-lost")
    with sessions() as session:
        assert model_registry.find_model(session, upload[0]).state is UploadState.VALIDATING


def test_a_checked_dataset_is_ready(sessions, model_id, dataset_upload):
    """When its check succeeds the data set is ready, with its summary, and can be used in jobs."""
    dataset_id, job_id = dataset_upload
    request = {"kind": JobKind.AUDIT, "model_id": model_id, "dataset": dataset_id, "spec": {}, "owner": "ann"}
    with pytest.raises(DatasetNotReady, match="still being checked"), sessions.begin() as session:
        submit_job(session, **request)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, summary=SUMMARY)
    with sessions() as session:
        dataset = dataset_registry.find_dataset(session, dataset_id)
    assert (dataset.state, dataset.summary, dataset.error) == (UploadState.READY, SUMMARY, None)
    with sessions.begin() as session:
        assert submit_job(session, **request).dataset == dataset_id


def test_a_failed_check_rejects_the_dataset(sessions, model_id, dataset_upload):
    """When its check fails the data set is rejected with the error of the job."""
    dataset_id, job_id = dataset_upload
    with sessions.begin() as session:
        lifecycle.fail(session, job_id, 1, code="dataset-invalid", message="No labels.")
    with sessions() as session:
        dataset = dataset_registry.find_dataset(session, dataset_id)
    assert (dataset.state, dataset.error) == (
        UploadState.REJECTED,
        {"code": "dataset-invalid", "message": "No labels."},
    )


def test_finetuning_makes_a_model(sessions, model_id):
    """A fine-tuning ends with a report and a new model that knows its parents; its job knows the model."""
    with sessions.begin() as session:
        job = submit_job(
            session,
            kind=JobKind.FINETUNE,
            model_id=model_id,
            dataset="mnist",
            spec={},
            owner="ann",
            metadata={"run": "7"},
        )
        lifecycle.claim(session, job.id, worker="w", lease_seconds=60)
        classifier = StoredClassifier(
            StoredFile("c" * 64, 9, "application/vnd.safetensors"), SPEC, "e" * 64, name="digits, repaired"
        )
        lifecycle.succeed(session, job.id, 1, report="{}", result_model=classifier)
    with sessions() as session:
        result = model_registry.find_model(session, queries.find_job(session, job.id).result_model_id)
        assert [model.id for model in model_registry.list_lineage(session, result.id).data] == [result.id, model_id]
    assert (result.name, result.state, result.sha256) == ("digits, repaired", UploadState.READY, "c" * 64)
    assert result.weights_sha256 == "e" * 64
    assert (result.parent_model_id, result.parent_job_id, result.owner) == (model_id, job.id, "ann")


def test_a_fine_tuning_may_end_without_a_model(sessions, model_id):
    """A fine-tuning that keeps the original weights ends with its report alone; an audit with a model is refused."""
    ends = {}
    for kind, classifier in (
        (JobKind.FINETUNE, None),
        (JobKind.AUDIT, StoredClassifier(WEIGHTS, SPEC, WEIGHTS_SHA256)),
    ):
        with sessions.begin() as session:
            job = submit_job(session, kind=kind, model_id=model_id, dataset="mnist", spec={}, owner="ann")
            lifecycle.claim(session, job.id, worker="w", lease_seconds=60)
        with sessions.begin() as session, suppress(ValueError):
            ends[kind] = lifecycle.succeed(session, job.id, 1, report="{}", result_model=classifier).result_model_id
    assert ends == {JobKind.FINETUNE: None}


def test_identical_results_share_a_file(sessions, model_id):
    """Two jobs that make the same weights make two models with one file."""
    results = set()
    for _ in range(2):
        with sessions.begin() as session:
            job = submit_job(session, kind=JobKind.FINETUNE, model_id=model_id, dataset="mnist", spec={}, owner="ann")
            lifecycle.claim(session, job.id, worker="w", lease_seconds=60)
            classifier = StoredClassifier(WEIGHTS, SPEC, WEIGHTS_SHA256)
            results.add(lifecycle.succeed(session, job.id, 1, report="{}", result_model=classifier).result_model_id)
    assert len(results) == 2
