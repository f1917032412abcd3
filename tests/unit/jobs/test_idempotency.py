"""One job for one idempotency key."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from jobs import control, dataset_registry, model_registry, queries
from jobs.database import open_database
from jobs.errors import FileVanished, IdempotencyConflict
from jobs.idempotency import payload_digest
from jobs.settings import Quota
from jobs.states import JobKind
from jobs.storage import FolderStorage
from jobs.tables import Dataset, Job, JobEvent, Model
from tests.job_steps import SPEC, UPLOAD, WEIGHTS, queue_audit, submit_job


def _count(sessions, table) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_the_order_of_fields_does_not_matter():
    """The digest of a payload depends on names and values alone."""
    assert payload_digest({"a": 1, "b": {"c": 2, "d": 3}}) == payload_digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert payload_digest({"a": 1}) != payload_digest({"a": 2})


def test_without_a_key_every_request_is_new(sessions, model_id):
    """Two equal requests without a key are two jobs."""
    assert queue_audit(sessions, model_id) != queue_audit(sessions, model_id)


def test_the_same_request_gets_the_first_job(sessions, model_id):
    """A request that is repeated with its key gets the first job in its present state, and stores no row."""
    first = queue_audit(sessions, model_id, key="k")
    with sessions.begin() as session:
        control.cancel(session, first)
    before = (_count(sessions, Job), _count(sessions, JobEvent))
    assert queue_audit(sessions, model_id, key="k") == first
    assert (_count(sessions, Job), _count(sessions, JobEvent)) == before


def test_another_request_is_a_conflict(sessions, model_id):
    """A key that was used for another request is refused, naming the job it belongs to."""
    first = queue_audit(sessions, model_id, key="k")
    with pytest.raises(IdempotencyConflict, match=first):
        queue_audit(sessions, model_id, key="k", seed=1)


def test_keys_belong_to_owners(sessions, model_id):
    """Two owners may use the same key."""
    first = queue_audit(sessions, model_id, key="k")
    with sessions.begin() as session:
        other = submit_job(
            session, kind=JobKind.AUDIT, model_id=model_id, dataset="mnist", spec={}, owner="bob", idempotency_key="k"
        )
    assert other.id != first


def test_uploads_have_keys_too(sessions):
    """A repeated upload gets the first model or data set; other bytes under its key are a conflict."""
    with sessions.begin() as session:
        model, job = model_registry.register_upload(
            session, name="m", spec=SPEC, upload=UPLOAD, owner="ann", idempotency_key="m"
        )
        dataset, _ = dataset_registry.register_upload(
            session, name="d", upload=UPLOAD, owner="ann", idempotency_key="d"
        )
    with sessions.begin() as session:
        again, check = model_registry.register_upload(
            session, name="m", spec=SPEC, upload=UPLOAD, owner="ann", idempotency_key="m"
        )
        assert (again.id, check.id) == (model.id, job.id)
        same, _ = dataset_registry.register_upload(session, name="d", upload=UPLOAD, owner="ann", idempotency_key="d")
        assert same.id == dataset.id
    with pytest.raises(IdempotencyConflict), sessions.begin() as session:
        dataset_registry.register_upload(session, name="d", upload=WEIGHTS, owner="ann", idempotency_key="d")
    assert (_count(sessions, Model), _count(sessions, Dataset)) == (1, 1)


def test_a_key_of_another_kind_of_request(sessions, model_id):
    """A key that made an audit does not answer an upload."""
    queue_audit(sessions, model_id, key="k")
    with pytest.raises(IdempotencyConflict), sessions.begin() as session:
        dataset_registry.register_upload(session, name="d", upload=UPLOAD, owner="ann", idempotency_key="k")


@pytest.mark.parametrize("kind", ["job", "model"])
def test_the_same_request_twice_at_the_same_moment(database_url, sessions, model_id, kind):
    """Six equal requests with one key at the same moment make one job, for which there is room, and all get it."""
    gate, models = Barrier(6), _count(sessions, Model)

    def request(_: int) -> str:
        own = open_database(database_url, pooled=False)
        gate.wait()
        if kind == "job":
            return queue_audit(own, model_id, key="k", quota=Quota(jobs=1, bytes=0))
        with own.begin() as session:
            _, job = model_registry.register_upload(
                session, name="m", spec=SPEC, upload=UPLOAD, owner="ann", idempotency_key="k"
            )
            return job.id

    with ThreadPoolExecutor(6) as threads:
        ids = set(threads.map(request, range(6)))
    assert len(ids) == 1
    assert _count(sessions, Model) == models + (kind == "model")
    with sessions() as session:
        assert [event.kind for event in queries.list_events(session, ids.pop())] == ["queued"]


def test_content_that_was_only_compared_makes_nothing_new(sessions, tmp_path):
    """An upload under a known key whose first result was deleted meanwhile is refused, since its file was not stored."""
    storage = FolderStorage(tmp_path)
    with pytest.raises(FileVanished), sessions.begin() as session:
        dataset_registry.register_upload(
            session, name="d", upload=UPLOAD, owner="ann", idempotency_key="k", storage=storage
        )
    with sessions() as session:
        assert dataset_registry.list_datasets(session).data == []
