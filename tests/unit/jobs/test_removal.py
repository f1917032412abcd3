"""Deletion of rows, and of files exactly when no row refers to them."""

import threading
import time

import pytest
from sqlalchemy import update

from jobs import control, dataset_registry, lifecycle, model_registry, queries, removal
from jobs.artifacts import record_artifact, require_in_storage
from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import FileVanished, InUse, JobNotFound, JobStateConflict, ModelNotReady
from jobs.results import StoredClassifier
from jobs.states import UploadState
from jobs.storage import Storage
from jobs.tables import Artifact, Job
from tests.job_steps import SPEC, WEIGHTS_SHA256, claim_job, queue_audit
from tests.storage_contents import read_contents

TYPE = "application/octet-stream"


def model_of(sessions: Sessions, storage: Storage, content: bytes, owner: str = "ann") -> str:
    """Return the id of a ready model with weights of that content, whose upload was another file."""
    upload, weights = (storage.put([part], media_type=TYPE) for part in (b"upload of " + content, content))
    with sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="m", spec=SPEC, upload=upload, owner=owner)
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(weights, SPEC, WEIGHTS_SHA256))
        return model.id


def test_checked_uploads_go(sessions, storage):
    """After its check the file that a model was uploaded as is collected, and its weights are kept."""
    model_of(sessions, storage, b"w")
    assert removal.collect(sessions, storage) == 1
    assert read_contents(storage) == [b"w"]


def test_shared_files_stay(sessions, storage):
    """The weights of a deleted model are removed when no other model, of any owner, has the same weights."""
    models = [model_of(sessions, storage, b"w", owner) for owner in ("ann", "ben")]
    for model, contents in zip(models, [[b"w"], []], strict=True):
        with sessions.begin() as session:
            assert removal.remove_model(session, model).state is UploadState.DELETED
        removal.collect(sessions, storage)
        assert read_contents(storage) == contents


def test_a_deleted_model_is_of_no_use(sessions, storage):
    """A deleted model is in no list, no job accepts it, and its jobs still name it."""
    model = model_of(sessions, storage, b"w")
    audit = queue_audit(sessions, model)
    with sessions.begin() as session:
        control.cancel(session, audit)
        removal.remove_model(session, model)
    with pytest.raises(ModelNotReady, match="was deleted"):
        queue_audit(sessions, model)
    with sessions() as session:
        assert model_registry.list_models(session).data == []
        assert queries.find_job(session, audit).model_id == model


def test_what_is_needed_is_not_deleted(sessions, storage):
    """A model or data set of an unfinished job is not deleted, nor is such a job."""
    model = model_of(sessions, storage, b"w")
    audit = queue_audit(sessions, model)
    with sessions.begin() as session:
        upload = storage.put([b"d"], media_type=TYPE)
        dataset, _ = dataset_registry.register_upload(session, name="d", upload=upload, owner="ann")
    with pytest.raises(InUse, match=audit), sessions.begin() as session:
        removal.remove_model(session, model)
    with pytest.raises(InUse, match="job_"), sessions.begin() as session:
        removal.remove_dataset(session, dataset.id)
    with pytest.raises(JobStateConflict, match="Cancel it first"), sessions.begin() as session:
        removal.remove_job(session, audit)


def test_a_job_goes_with_its_report(sessions, storage):
    """A deleted job leaves no event and no report, and a model that names it is kept."""
    audit = queue_audit(sessions, model_of(sessions, storage, b"w"))
    claim_job(sessions, audit)
    with sessions.begin() as session:
        lifecycle.succeed(session, audit, 1, report="{}")
        removal.remove_job(session, audit)
    for look in (queries.find_job, queries.list_events, queries.find_report):
        with pytest.raises(JobNotFound), sessions() as session:
            look(session, audit)


def test_old_jobs_go(sessions, storage):
    """Jobs that ended longer ago than the configured days are removed, and no others."""
    old, young, waiting = (queue_audit(sessions, model_of(sessions, storage, b"w")) for _ in range(3))
    with sessions.begin() as session:
        for job_id, days in ((old, 3), (young, 1)):
            control.cancel(session, job_id)
            session.execute(update(Job).where(Job.id == job_id).values(finished_at=now(-days * 86_400)))
    assert removal.remove_old_jobs(sessions, days=2) == 1
    with sessions() as session:
        assert {job.id for job in queries.list_jobs(session).data} >= {young, waiting}
    with pytest.raises(JobNotFound), sessions() as session:
        queries.find_job(session, old)


def test_strays_go(sessions, storage):
    """A stored file that was never registered is removed after a time; one that was stored again in between is kept."""
    model_of(sessions, storage, b"w")
    removal.collect(sessions, storage)
    strays = [storage.put([content], media_type=TYPE) for content in (b"old", b"anew")]
    start = time.time()
    time.sleep(1.1)  # an object store may tell whole seconds
    storage.put([b"anew"], media_type=TYPE)
    assert removal.collect_strays(sessions, storage, silent_seconds=time.time() - start) == 1
    assert read_contents(storage) == [b"anew", b"w"]
    with sessions() as session:
        assert [session.get(Artifact, stray.sha256) for stray in strays] == [None, None]


def test_who_registers_what_just_goes_is_told(sessions, storage, monkeypatch):
    """A file that is stored again while it is collected is either kept or its registration is refused, never lost."""
    model = model_of(sessions, storage, b"w")
    with sessions.begin() as session:
        removal.remove_model(session, model)
    weights = storage.put([b"w"], media_type=TYPE)
    removing, may_go_on = threading.Event(), threading.Event()
    remove = storage.remove

    def slowly(sha256: str) -> None:
        remove(sha256)
        if sha256 == weights.sha256:
            removing.set()
            may_go_on.wait(10)

    monkeypatch.setattr(storage, "remove", slowly)
    collector = threading.Thread(target=removal.collect, args=[sessions, storage])
    collector.start()
    assert removing.wait(10)
    threading.Timer(0.3, may_go_on.set).start()
    with sessions.begin() as session:
        record_artifact(session, weights)
        with pytest.raises(FileVanished):
            require_in_storage(storage, weights)
        session.rollback()
    collector.join()
    with sessions() as session:
        assert session.get(Artifact, weights.sha256) is None


def test_an_upload_that_became_the_model_is_kept(sessions, storage):
    """An upload in the project's own format becomes the file of the model, and is kept after its check."""
    weights = storage.put([b"w"], media_type=TYPE)
    with sessions.begin() as session:
        _, check = model_registry.register_upload(session, name="m", spec=SPEC, upload=weights, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(weights, SPEC, WEIGHTS_SHA256))
    assert removal.collect(sessions, storage) == 0
    assert read_contents(storage) == [b"w"]


def test_a_rejected_data_set_leaves_its_file(sessions, storage):
    """After a rejection neither a model's file nor a data set's is kept."""
    with sessions.begin() as session:
        upload = storage.put([b"d"], media_type=TYPE)
        _, check = dataset_registry.register_upload(session, name="d", upload=upload, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.fail(session, check.id, 1, code="dataset-invalid", message="m")
    assert removal.collect(sessions, storage) == 1
    assert read_contents(storage) == []
