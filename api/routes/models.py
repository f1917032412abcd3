"""Models: upload weights, look one up, follow one back to its origin, download weights."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO, NoReturn, Self

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.resources import ModelResource, Page
from api.serving.dependencies import After, Id, IdempotencyKey, Limit, Service
from api.serving.negotiation import unchanged
from api.uploads import forms, receiving
from api.uploads.digests import digest_field
from jobs import model_registry, removal
from jobs.artifacts import note_lost
from jobs.errors import FileLost, ModelNotReady

router = APIRouter(tags=["models"])

LINK_SECONDS = 300.0

_FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "safetensors, or a state dict saved by torch.save. The part's own headers may carry "
            "Content-Digest or Repr-Digest (sha-256) of the file; those of the request are about the whole body.",
        },
        "upload": {
            "type": "string",
            "description": "in place of a file, the id of one that came in parts (`POST /uploads`)",
        },
        "name": {"type": "string", "maxLength": 200, "description": "for people; default: the file's name"},
        "spec": {"type": "string", "contentMediaType": "application/json", "description": "ClassifierSpec as JSON"},
        "architecture": {"type": "string", "description": "instead of spec, with the following"},
        "num_classes": {"type": "integer"},
        "mean": {
            "type": "string",
            "description": "numbers with commas between, one per channel; a single one serves as many channels as the weights "
            "take",
        },
        "std": {"type": "string", "description": "numbers with commas between, as many as mean has"},
        "class_names": {"type": "string", "description": "names with commas between, or a JSON list"},
        "arguments": {"type": "string", "description": "the architecture's own, as a JSON object"},
        "weights_key": {
            "type": "string",
            "maxLength": 1000,
            "description": "which weights to read from a checkpoint that holds several sets, such as `state_dict_ema`; without "
            "it such a checkpoint is rejected with the list of its keys",
        },
    },
    "examples": [
        {
            "file": "weights.safetensors",
            "architecture": "small_resnet",
            "num_classes": 10,
            "mean": "0.286",
            "std": "0.353",
        }
    ],
}


@router.post(
    "/models",
    status_code=202,
    summary="Upload a model",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
def upload_model(
    request: Request, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> ModelResource:
    """The model, `validating` until a worker has checked the file; then `ready`, or `rejected` with a reason.

    Without `spec` and its single fields, a safetensors file tells by itself what it is if this software wrote it.
    """
    model = receive_model(request, service, idempotency_key)
    response.headers["Location"] = f"/models/{model.id}"
    return model


def receive_model(request: Request, service: Service, idempotency_key: str | None) -> ModelResource:
    """The uploaded model, committed, its check rung."""
    received = receiving.receive(
        request, service, idempotency_key, media_type=forms.model_media_type, check=forms.read_model_form
    )
    with received as upload, service.sessions.begin() as session:
        row, check = model_registry.register_upload(
            session,
            name=upload.form.name,
            spec=upload.form.spec,
            weights_key=upload.form.weights_key,
            upload=upload.file,
            owner=service.owner,
            idempotency_key=idempotency_key,
            quota=service.settings.quota,
            storage=service.storage,
        )
        model, check_id = ModelResource.of(row), check.id
    service.queue.ring(check_id)
    return model


@router.get("/models", summary="List models, newest first")
def list_models(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[ModelResource]:
    """Uploaded and fine-tuned models."""
    with service.sessions() as session:
        page = model_registry.models(session, after=after, limit=limit)
    return Page[ModelResource].of(page, ModelResource.of)


@router.get("/models/{id}", summary="One model")
def get_model(model_id: Id, service: ReaderDep) -> ModelResource:
    """What it is, where it stands, and what it was fine-tuned from."""
    with service.sessions() as session:
        return ModelResource.of(model_registry.model(session, model_id))


@router.delete("/models/{id}", summary="Delete a model")
def delete_model(model_id: Id, service: SubmitterDep) -> ModelResource:
    """Delete its weights. The model stays, as `deleted`, for the jobs and fine-tuned models that name it."""
    with service.sessions.begin() as session:
        model = ModelResource.of(removal.remove_model(session, model_id))
    removal.collect_now(service.sessions, service.storage)
    return model


@router.get("/models/{id}/lineage", summary="Where a model comes from")
def list_model_lineage(
    model_id: Id, service: ReaderDep, after: After = None, limit: Limit = 100
) -> Page[ModelResource]:
    """Return the model, the one it was fine-tuned from, and so on to the one that was uploaded."""
    with service.sessions() as session:
        page = model_registry.lineage(session, model_id, after=after, limit=limit)
        return Page[ModelResource].of(page, ModelResource.of)


class _Weights(FileResponse):
    """A file of a storage, whose range errors are problems like all others."""

    _open: Callable[[], BinaryIO]

    @classmethod
    def of(cls, service: Service, sha256: str, *, filename: str, headers: Mapping[str, str]) -> Self:
        """Return the answer with a file that is whole. Raises: ServiceBusy, FileLost, StoreUnavailable."""
        status = service.downloads.verified(service.storage, sha256, service.owner)
        made = cls(sha256, media_type=forms.SAFETENSORS, filename=filename, headers=headers, stat_result=status)
        made._open = partial(service.storage.open, sha256)
        return made

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        file = anyio.wrap_file(await anyio.to_thread.run_sync(self._open))
        try:
            yield file
        finally:
            with anyio.CancelScope(shield=True):  # also when the client has gone
                await file.aclose()

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # RFC 9110, section 14.2: as if it had not been sent
        except RangeNotSatisfiable:
            _refuse_range(file_size)


def _refuse_range(size: int) -> NoReturn:
    raise HTTPException(416, f"The file has {size:,} bytes.", headers={"Content-Range": f"bytes */{size}"})


@router.get(
    "/models/{id}/weights",
    summary="Download weights",
    response_class=_Weights,
    responses={
        200: {"content": {forms.SAFETENSORS: {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part asked for in Range"},
        304: {"description": "As in the version you have"},
        307: {"description": "A link under which the object store has them, good for five minutes"},
    },
)
def download_model_weights(model_id: Id, service: ReaderDep, request: Request) -> Response:
    """The weights as safetensors, with what they are in the metadata. Range requests are answered in part."""
    with service.sessions() as session:
        model = ModelResource.of(model_registry.model(session, model_id))
    if model.file_sha256 is None:
        raise ModelNotReady(f"Model {model.id} is {model.status}; it has no weights to download.")
    digest = digest_field(model.file_sha256)
    headers = {"ETag": f'"{model.file_sha256}"', "Repr-Digest": digest}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if service.settings.store_links and (link := service.storage.link(model.file_sha256, LINK_SECONDS)) is not None:
        return RedirectResponse(link, headers={**headers, "Cache-Control": "no-store"})
    if "Range" not in request.headers:
        headers["Content-Digest"] = digest
    try:
        return _Weights.of(service, model.file_sha256, filename=f"{model.name}.safetensors", headers=headers)
    except FileLost as lost:
        note_lost(service.sessions, lost)
        raise
