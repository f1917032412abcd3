"""Uploaded data sets: register one, look one up, list them."""

from collections.abc import Collection, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.artifacts import record_artifact, require_there
from jobs.errors import DatasetNotFound
from jobs.idempotency import once, payload_digest
from jobs.moves import add
from jobs.paging import Page, page
from jobs.quotas import require_room_for_upload
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind, UploadState
from jobs.storage import Storage, Stored
from jobs.tables import Dataset, Job


def register_upload(
    session: Session,
    *,
    name: str,
    upload: Stored,
    owner: str,
    idempotency_key: str | None = None,
    quota: Quota = NO_QUOTA,
    storage: Storage | None = None,
) -> tuple[Dataset, Job]:
    """Return a data set that is being validated and the queued job that checks it, or those this key made before.

    Ring after the commit. Raises: IdempotencyConflict, QuotaExceeded; FileVanished where the file is not in `storage`.
    """
    digest = payload_digest({"kind": JobKind.CHECK_DATASET, "name": name, "upload": upload.sha256})

    def create() -> Job:
        require_room_for_upload(session, owner, quota, upload)
        record_artifact(session, upload)
        if storage is not None:
            require_there(storage, upload)
        dataset = Dataset(name=name, owner=owner, state=UploadState.VALIDATING, sha256=upload.sha256)
        session.add(dataset)
        session.flush()
        check = Job(
            kind=JobKind.CHECK_DATASET,
            owner=owner,
            dataset=dataset.id,
            spec={},
            idempotency_key=idempotency_key,
            payload_sha256=digest,
        )
        return add(session, check)

    job = once(session, owner=owner, key=idempotency_key, payload_sha256=digest, create=create)
    return session.get_one(Dataset, job.dataset), job


def dataset(session: Session, dataset_id: str) -> Dataset:
    """The data set of that id. Raises: DatasetNotFound."""
    found = session.get(Dataset, dataset_id)
    if found is None:
        raise DatasetNotFound(f"There is no data set {dataset_id!r}; `GET /datasets` lists them.")
    return found


def datasets(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Dataset]:
    """A page of uploaded data sets that were not deleted, newest first, after the one of that id."""
    kept = select(Dataset).where(Dataset.state != UploadState.DELETED)
    return page(session, kept, Dataset.id, after=after, limit=limit, document=Dataset.summary)


def ready(session: Session, *, limit: int) -> Mapping[str, str]:
    """Return the names of the newest data sets that can be used, by id."""
    query = select(Dataset.id, Dataset.name).where(Dataset.state == UploadState.READY)
    return {row.id: row.name for row in session.execute(query.order_by(Dataset.id.desc()).limit(limit))}


def names(session: Session, dataset_ids: Collection[str]) -> Mapping[str, str]:
    """Return the names of those data sets that exist, by id."""
    query = select(Dataset.id, Dataset.name).where(Dataset.id.in_(dataset_ids))
    return {row.id: row.name for row in session.execute(query)}
