"""Models: register an uploaded one, look one up, list them, follow one back to its origin."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs.artifacts import record_artifact
from jobs.errors import ModelNotFound
from jobs.idempotency import once, payload_digest
from jobs.moves import add
from jobs.paging import Page, page
from jobs.states import JobKind, UploadState
from jobs.storage import Stored
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
) -> tuple[Model, Job]:
    """A model that is being validated and the queued job that checks it, or those this key made before.

    Ring after the commit. Raises: IdempotencyConflict.

    Args:
        weights_key: which set of weights in the file is meant, where it holds several.
    """
    fields = spec.model_dump(mode="json")
    asked = fields if weights_key is None else {**fields, WEIGHTS_KEY: weights_key}
    digest = payload_digest({"kind": JobKind.CHECK_MODEL, "name": name, "spec": asked, "upload": upload.sha256})

    def create() -> Job:
        record_artifact(session, upload)
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
    return page(session, select(Model).where(Model.state != UploadState.DELETED), Model.id, after=after, limit=limit)


def lineage(session: Session, model_id: str, *, after: str | None = None, limit: int = 100) -> Page[Model]:
    """Return a page of the model, the one it was fine-tuned from, and so on to the uploaded one.

    Args:
        after: the last model of the page before.
    Raises: ModelNotFound.
    """
    first = model(session, model_id)
    following = first.id if after is None else model(session, after).parent_model_id
    chain: list[Model] = []
    while following is not None and len(chain) < limit:
        chain.append(session.get_one(Model, following))
        following = chain[-1].parent_model_id
    return Page(chain, following is not None, chain[-1].id if chain else None)
