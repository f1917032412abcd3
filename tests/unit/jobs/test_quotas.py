"""The quotas of an owner: counted by owner, by state, and each file once."""

import pytest

from jobs import dataset_registry, lifecycle, model_registry, quotas
from jobs.errors import QuotaExceeded
from jobs.results import StoredClassifier
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind
from jobs.storage import StoredFile
from tests.job_steps import SPEC, UPLOAD, WEIGHTS, WEIGHTS_SHA256, queue_audit, submit_job


def test_jobs_that_have_not_ended_count(sessions, model_id):
    """Queued and running jobs count, ended ones and other owners' do not; the last allowed one is accepted."""
    first, _ = (queue_audit(sessions, model_id, seed=seed) for seed in (1, 2))
    with sessions.begin() as session:
        lifecycle.claim(session, first, worker="w", lease_seconds=60)
        quotas.require_room_for_job(session, "ann", JobKind.AUDIT, Quota(jobs=3))
        quotas.require_room_for_job(session, "ann", JobKind.AUDIT, NO_QUOTA)
        quotas.require_room_for_job(session, "ben", JobKind.AUDIT, Quota(jobs=1))
        with pytest.raises(QuotaExceeded) as failure:
            quotas.require_room_for_job(session, "ann", JobKind.AUDIT, Quota(jobs=2))
        assert (failure.value.resource, failure.value.most, failure.value.used) == ("jobs", 2, 2)
        lifecycle.fail(session, first, 1, code="internal-error", message="gone")
        quotas.require_room_for_job(session, "ann", JobKind.AUDIT, Quota(jobs=2))


def test_a_job_that_was_there_before_needs_no_room(sessions, model_id):
    """A request that is repeated with its key gets its first answer although the quota is used up."""

    def submit(key: str) -> str:
        with sessions.begin() as session:
            return submit_job(
                session,
                kind=JobKind.AUDIT,
                model_id=model_id,
                dataset="fashion-mnist-subset",
                spec={},
                owner="ann",
                idempotency_key=key,
                quota=Quota(jobs=1),
            ).id

    first = submit("a")
    assert submit("a") == first
    with pytest.raises(QuotaExceeded):
        submit("b")


def test_bytes_count_once_a_file(sessions):
    """Waiting uploads, weights and data sets count; a file that two of them share counts once."""
    with sessions.begin() as session:
        _, check = model_registry.register_upload(session, name="m", spec=SPEC, upload=UPLOAD, owner="ann")
        assert quotas.room_for_upload(session, "ann", Quota(bytes=100)) == 100 - UPLOAD.size
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(WEIGHTS, SPEC, WEIGHTS_SHA256))
        dataset_registry.register_upload(session, name="d", upload=StoredFile("c" * 64, 7, "x"), owner="ann")
        dataset_registry.register_upload(session, name="d", upload=StoredFile("c" * 64, 7, "x"), owner="ann")
        dataset_registry.register_upload(session, name="d", upload=StoredFile("d" * 64, 90, "x"), owner="ben")
        bytes_used = WEIGHTS.size + 7  # the upload goes, now that it was checked
        assert quotas.room_for_upload(session, "ann", Quota(bytes=100)) == 100 - bytes_used
        assert quotas.room_for_upload(session, "ann", NO_QUOTA) is None
        with pytest.raises(QuotaExceeded) as failure:
            quotas.room_for_upload(session, "ann", Quota(bytes=bytes_used))
        assert (failure.value.resource, failure.value.most, failure.value.used) == ("bytes", bytes_used, bytes_used)
        quotas.require_room_for_job(session, "ann", JobKind.AUDIT, Quota(bytes=bytes_used))
        with pytest.raises(QuotaExceeded):  # its weights would be stored
            quotas.require_room_for_job(session, "ann", JobKind.FINETUNE, Quota(bytes=bytes_used))
        with pytest.raises(QuotaExceeded):  # its check is a job
            quotas.room_for_upload(session, "ann", Quota(jobs=1))
