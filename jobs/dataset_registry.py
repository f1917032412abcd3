"""Uploaded data sets: register, find and list them."""

from collections.abc import Collection, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.artifacts import record_artifact, require_in_storage
from jobs.errors import DatasetNotFound
from jobs.idempotency import create_once, payload_digest
from jobs.moves import add_job
from jobs.paging import Page, read_bounded_rows, read_page
from jobs.quotas import require_room_for_upload
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind, UploadState
from jobs.storage import Storage, StoredFile
from jobs.tables import Dataset, Job


def register_upload(
    session: Session,
    *,
    name: str,
    upload: StoredFile,
    owner: str,
    submitted_by: str | None = None,
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
            require_in_storage(storage, upload)
        dataset = Dataset(name=name, owner=owner, state=UploadState.VALIDATING, sha256=upload.sha256)
        session.add(dataset)
        session.flush()
        check = Job(
            kind=JobKind.CHECK_DATASET,
            owner=owner,
            dataset=dataset.id,
            spec={},
            submitted_by=submitted_by,
            idempotency_key=idempotency_key,
            payload_sha256=digest,
        )
        return add_job(session, check)

    job = create_once(session, Job, owner=owner, key=idempotency_key, payload_sha256=digest, create=create)
    return session.get_one(Dataset, job.dataset), job


def find_dataset(session: Session, dataset_id: str) -> Dataset:
    """Return the data set of that id. Raises: DatasetNotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise DatasetNotFound(f"There is no data set {dataset_id!r}; `GET /datasets` lists them.")
    return dataset


def list_datasets(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Dataset]:
    """Return a page of uploaded data sets that were not deleted, newest first, after the one of that id."""
    query = select(Dataset).where(Dataset.state != UploadState.DELETED)
    return read_page(session, query, Dataset.id, after=after, limit=limit, documents=(Dataset.summary,))


def list_ready(session: Session, *, limit: int) -> Mapping[str, str]:
    """Return the names of the newest data sets that are ready, by id."""
    query = select(Dataset.id, Dataset.name).where(Dataset.state == UploadState.READY)
    return {row.id: row.name for row in session.execute(query.order_by(Dataset.id.desc()).limit(limit))}


def list_ready_rows(session: Session, *, limit: int) -> list[Dataset]:
    """Return the newest data sets that are ready, fewer where their summaries are large."""
    query = select(Dataset).where(Dataset.state == UploadState.READY).order_by(Dataset.id.desc())
    return read_bounded_rows(session, query, (Dataset.summary,), limit)[0]


def find_names(session: Session, dataset_ids: Collection[str]) -> Mapping[str, str]:
    """Return the names of those data sets that exist, by id."""
    query = select(Dataset.id, Dataset.name).where(Dataset.id.in_(dataset_ids))
    return {row.id: row.name for row in session.execute(query)}
