"""Models: register an uploaded one, find one, list them, list a model's ancestors."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs.artifacts import record_artifact, require_in_storage
from jobs.errors import ModelNotFound
from jobs.idempotency import create_once, payload_digest
from jobs.moves import add_job
from jobs.paging import PAGE_CHARACTERS, Page, read_page
from jobs.quotas import require_room_for_upload
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind, UploadState
from jobs.storage import Storage, StoredFile
from jobs.tables import Job, Model

WEIGHTS_TYPE = "application/vnd.safetensors"
"""Media type of stored weights."""
WEIGHTS_KEY = "weights_key"
"""The name of `weights_key` in the spec of a job that checks a model, beside the fields of the ClassifierSpec."""


def register_upload(
    session: Session,
    *,
    name: str,
    spec: ClassifierSpec,
    upload: StoredFile,
    owner: str,
    submitted_by: str | None = None,
    weights_key: str | None = None,
    idempotency_key: str | None = None,
    quota: Quota = NO_QUOTA,
    storage: Storage | None = None,
) -> tuple[Model, Job]:
    """Return a model that is being validated and the queued job that checks it, or those this key made before.

    Ring after the commit. Raises: IdempotencyConflict, QuotaExceeded; FileVanished where the file is not in `storage`.

    Args:
        weights_key: which set of weights to read from a file that holds several.
    """
    fields = spec.model_dump(mode="json")
    check_spec = fields if weights_key is None else {**fields, WEIGHTS_KEY: weights_key}
    digest = _upload_digest(name, check_spec, upload)

    def create() -> Job:
        require_room_for_upload(session, owner, quota, upload)
        record_artifact(session, upload)
        if storage is not None:
            require_in_storage(storage, upload)
        model = Model(name=name, owner=owner, state=UploadState.VALIDATING, spec=fields, upload_sha256=upload.sha256)
        session.add(model)
        session.flush()
        check = Job(
            kind=JobKind.CHECK_MODEL,
            owner=owner,
            model_id=model.id,
            spec=check_spec,
            submitted_by=submitted_by,
            idempotency_key=idempotency_key,
            payload_sha256=digest,
        )
        return add_job(session, check)

    job = create_once(session, Job, owner=owner, key=idempotency_key, payload_sha256=digest, create=create)
    return session.get_one(Model, job.model_id), job


def _upload_digest(name: str, check_spec: Mapping[str, Any], upload: StoredFile) -> str:
    """Return the digest of an upload, by which a repeated one is recognised."""
    return payload_digest({"kind": JobKind.CHECK_MODEL, "name": name, "spec": check_spec, "upload": upload.sha256})


def find_upload(session: Session, *, name: str, spec: ClassifierSpec, upload: StoredFile) -> Model | None:
    """Return the newest model that was uploaded with this name, spec and file and is ready or being checked, or None."""
    digest = _upload_digest(name, spec.model_dump(mode="json"), upload)
    same_upload = (Job.kind == JobKind.CHECK_MODEL, Job.payload_sha256 == digest)
    usable = Model.state.in_((UploadState.VALIDATING, UploadState.READY))
    query = select(Model).join(Job, Job.model_id == Model.id).where(*same_upload, usable)
    return session.scalars(query.order_by(Model.id.desc()).limit(1)).first()


def find_model(session: Session, model_id: str) -> Model:
    """Return the model of that id. Raises: ModelNotFound."""
    model = session.get(Model, model_id)
    if model is None:
        raise ModelNotFound(f"There is no model {model_id!r}; `GET /models` lists them.")
    return model


def find_ready(session: Session, model_id: str) -> Model | None:
    """Return the model of that id if it is ready, or None."""
    model = session.get(Model, model_id)
    return model if model is not None and model.state is UploadState.READY else None


def find_by_weights(
    session: Session, owner: str, weights_sha256: str, *, cutoff: datetime | None = None
) -> Model | None:
    """Return the owner's newest model with these weights that is ready, or None.

    Args:
        cutoff: time after which added models do not count, so that all attempts and helpers of a job read the same one.
    """
    query = select(Model).where(
        Model.owner == owner, Model.weights_sha256 == weights_sha256, Model.state == UploadState.READY
    )
    if cutoff is not None:
        query = query.where(Model.created_at <= cutoff)
    return session.scalars(query.order_by(Model.id.desc()).limit(1)).first()


def list_models(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Model]:
    """Return a page of models that were not deleted, newest first, after the one of that id."""
    query = select(Model).where(Model.state != UploadState.DELETED)
    return read_page(session, query, Model.id, after=after, limit=limit, documents=(Model.spec,))


class ReadyModel(NamedTuple):
    """A row of a list of models to choose from."""

    id: str
    name: str
    architecture: str
    num_classes: int


def list_ready(session: Session, *, limit: int) -> list[ReadyModel]:
    """Return the newest models that are ready, without their class names."""
    network = (Model.spec["architecture"].as_string(), Model.spec["num_classes"].as_integer())
    query = select(Model.id, Model.name, *network).where(Model.state == UploadState.READY)
    return [ReadyModel(*row) for row in session.execute(query.order_by(Model.id.desc()).limit(limit))]


def find_names(session: Session, model_ids: Collection[str]) -> Mapping[str, str]:
    """Return the names of those models that exist, by id."""
    return {row.id: row.name for row in session.execute(select(Model.id, Model.name).where(Model.id.in_(model_ids)))}


def find_creation_times(session: Session, model_ids: Collection[str]) -> Mapping[str, datetime]:
    """Return the times at which those models were added, by id."""
    rows = session.execute(select(Model.id, Model.created_at).where(Model.id.in_(model_ids)))
    return {row.id: row.created_at for row in rows}


def list_lineage(session: Session, model_id: str, *, after: str | None = None, limit: int = 100) -> Page[Model]:
    """Return a page of the model, the one it was fine-tuned from, and so on to the uploaded one.

    Args:
        after: the last model of the page before.
    Raises: ModelNotFound.
    """
    first = find_model(session, model_id)
    following = first.id if after is None else find_model(session, after).parent_model_id
    chain: list[Model] = []
    characters = 0
    while following is not None and len(chain) < limit and characters <= PAGE_CHARACTERS:
        chain.append(session.get_one(Model, following))
        characters += len(json.dumps(chain[-1].spec))
        following = chain[-1].parent_model_id
    return Page(chain, following is not None, chain[-1].id if chain else None)
