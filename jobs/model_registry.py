"""Models: register an uploaded one, look one up, list them, follow one back to its origin."""

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs.artifacts import record_artifact, require_there
from jobs.errors import ModelNotFound
from jobs.idempotency import once, payload_digest
from jobs.moves import add
from jobs.paging import PAGE_CHARACTERS, Page, page
from jobs.quotas import require_room_for_upload
from jobs.settings import NO_QUOTA, Quota
from jobs.states import JobKind, UploadState
from jobs.storage import Storage, Stored
from jobs.tables import Job, Model

WEIGHTS_KEY = "weights_key"
"""The field beside those of the spec, in a check's job."""


def register_upload(
    session: Session,
    *,
    name: str,
    spec: ClassifierSpec,
    upload: Stored,
    owner: str,
    weights_key: str | None = None,
    idempotency_key: str | None = None,
    quota: Quota = NO_QUOTA,
    storage: Storage | None = None,
) -> tuple[Model, Job]:
    """Return a model that is being validated and the queued job that checks it, or those this key made before.

    Ring after the commit. Raises: IdempotencyConflict, QuotaExceeded; FileVanished where the file is not in `storage`.

    Args:
        weights_key: which set of weights in the file is meant, where it holds several.
    """
    fields = spec.model_dump(mode="json")
    asked = fields if weights_key is None else {**fields, WEIGHTS_KEY: weights_key}
    digest = payload_digest({"kind": JobKind.CHECK_MODEL, "name": name, "spec": asked, "upload": upload.sha256})

    def create() -> Job:
        require_room_for_upload(session, owner, quota, upload)
        record_artifact(session, upload)
        if storage is not None:
            require_there(storage, upload)
        model = Model(name=name, owner=owner, state=UploadState.VALIDATING, spec=fields, upload_sha256=upload.sha256)
        session.add(model)
        session.flush()
        check = Job(
            kind=JobKind.CHECK_MODEL,
            owner=owner,
            model_id=model.id,
            spec=asked,
            idempotency_key=idempotency_key,
            payload_sha256=digest,
        )
        return add(session, check)

    job = once(session, owner=owner, key=idempotency_key, payload_sha256=digest, create=create)
    return session.get_one(Model, job.model_id), job


def model(session: Session, model_id: str) -> Model:
    """The model of that id. Raises: ModelNotFound."""
    found = session.get(Model, model_id)
    if found is None:
        raise ModelNotFound(f"There is no model {model_id!r}; `GET /models` lists them.")
    return found


def models(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Model]:
    """A page of models that were not deleted, newest first, after the one of that id."""
    kept = select(Model).where(Model.state != UploadState.DELETED)
    return page(session, kept, Model.id, after=after, limit=limit, document=Model.spec)


class ReadyModel(NamedTuple):
    """What a list of models to choose from shows."""

    id: str
    name: str
    architecture: str
    num_classes: int


def ready(session: Session, *, limit: int) -> list[ReadyModel]:
    """Return the newest models that can be used, without their class names."""
    network = (Model.spec["architecture"].as_string(), Model.spec["num_classes"].as_integer())
    query = select(Model.id, Model.name, *network).where(Model.state == UploadState.READY)
    return [ReadyModel(*row) for row in session.execute(query.order_by(Model.id.desc()).limit(limit))]


def names(session: Session, model_ids: Collection[str]) -> Mapping[str, str]:
    """Return the names of those models that exist, by id."""
    return {row.id: row.name for row in session.execute(select(Model.id, Model.name).where(Model.id.in_(model_ids)))}


def lineage(session: Session, model_id: str, *, after: str | None = None, limit: int = 100) -> Page[Model]:
    """Return a page of the model, the one it was fine-tuned from, and so on to the uploaded one.

    Args:
        after: the last model of the page before.
    Raises: ModelNotFound.
    """
    first = model(session, model_id)
    following = first.id if after is None else model(session, after).parent_model_id
    chain: list[Model] = []
    characters = 0
    while following is not None and len(chain) < limit and characters <= PAGE_CHARACTERS:
        chain.append(session.get_one(Model, following))
        characters += len(json.dumps(chain[-1].spec))
        following = chain[-1].parent_model_id
    return Page(chain, following is not None, chain[-1].id if chain else None)
