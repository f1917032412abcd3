"""Models: upload, get, list and delete them, list their ancestors, and download weights."""

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
from api.serving import use_cases
from api.serving.dependencies import After, Id, IdempotencyKey, Limit, Service
from api.serving.negotiation import is_unchanged
from api.uploads.registration import register_model
from faal_client.digests import format_digest
from faal_client.resources.objects import ModelResource, Page
from faal_core.catalog import onnx_format
from jobs.artifacts import record_lost
from jobs.errors import FileLost, ModelNotReady
from jobs.model_registry import WEIGHTS_TYPE

router = APIRouter(tags=["models"])

LINK_SECONDS = 300.0

_FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "weights as safetensors, a state dict saved by torch.save, or an ONNX network. The part's own "
            "headers may carry Content-Digest or Repr-Digest (sha-256) of the file; those of the request apply to the whole "
            "body.",
        },
        "upload": {
            "type": "string",
            "description": "instead of a file, the id of an upload in parts (`POST /uploads`)",
        },
        "name": {"type": "string", "maxLength": 200, "description": "name for people; default: the file's name"},
        "spec": {"type": "string", "contentMediaType": "application/json", "description": "ClassifierSpec as JSON"},
        "architecture": {
            "type": "string",
            "description": "name of the architecture; with the fields below, instead of spec. Leave it out for an ONNX network.",
        },
        "num_classes": {"type": "integer", "description": "number of classes"},
        "mean": {
            "type": "string",
            "description": "mean of each channel, with commas between; a single number applies to all channels of the weights",
        },
        "std": {"type": "string", "description": "standard deviation of each channel, as many numbers as in mean"},
        "class_names": {"type": "string", "description": "names of the classes with commas between, or a JSON list"},
        "arguments": {"type": "string", "description": "arguments of the architecture, as a JSON object"},
        "weights_key": {
            "type": "string",
            "maxLength": 1000,
            "description": "key of the weights to read from a checkpoint with several sets, such as `state_dict_ema`; without "
            "it, such a checkpoint is rejected with the list of its keys",
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
    """Upload a model, and return it: `validating` until a worker has checked the file, then `ready` or `rejected`.

    Leave out `spec` and its single fields for a safetensors file that FAAL wrote: its metadata has them.
    """
    model = register_model(request, service, idempotency_key)
    response.headers["Location"] = f"/models/{model.id}"
    return model


@router.get("/models", summary="List models, newest first")
def list_models(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[ModelResource]:
    """List the uploaded and the fine-tuned models."""
    return use_cases.list_models(service, after=after, limit=limit)


@router.get("/models/{id}", summary="Get a model")
def get_model(model_id: Id, service: ReaderDep) -> ModelResource:
    """Return a model: its network, its state, and the model it was fine-tuned from."""
    return use_cases.get_model(service, model_id)


@router.delete("/models/{id}", summary="Delete a model")
def delete_model(model_id: Id, service: SubmitterDep) -> ModelResource:
    """Delete the weights of a model. The model is kept, as `deleted`, for the jobs and models that name it."""
    return use_cases.delete_model(service, model_id)


@router.get("/models/{id}/lineage", summary="List the ancestors of a model")
def list_model_lineage(
    model_id: Id, service: ReaderDep, after: After = None, limit: Limit = 100
) -> Page[ModelResource]:
    """List the model, the model it was fine-tuned from, and so on to the uploaded model."""
    return use_cases.list_lineage(service, model_id, after=after, limit=limit)


class _Weights(FileResponse):
    """A response with a file of the storage. Range errors are answered with problems."""

    _open: Callable[[], BinaryIO]

    @classmethod
    def for_model(cls, service: Service, model: ModelResource, sha256: str, headers: Mapping[str, str]) -> Self:
        """Verify the file, and return the response that sends it. Raises: ServiceBusy, FileLost, StoreUnavailable."""
        status = service.downloads.verify(service.storage, sha256, service.owner)
        is_onnx = model.spec.architecture == onnx_format.ONNX
        response = cls(
            sha256,
            media_type=onnx_format.MEDIA_TYPE if is_onnx else WEIGHTS_TYPE,
            filename=f"{model.name}.{'onnx' if is_onnx else 'safetensors'}",
            headers=headers,
            stat_result=status,
        )
        response._open = partial(service.storage.open, sha256)
        return response

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        file = anyio.wrap_file(await anyio.to_thread.run_sync(self._open))
        try:
            yield file
        finally:
            with anyio.CancelScope(shield=True):  # also when the client has disconnected
                await file.aclose()

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # RFC 9110, section 14.2: an invalid Range header is ignored
        except RangeNotSatisfiable:
            _refuse_range(file_size)


def _refuse_range(size: int) -> NoReturn:
    raise HTTPException(
        416,
        f"The requested range is outside the file, which has {size:,} bytes. Request a range within it.",
        headers={"Content-Range": f"bytes */{size}"},
    )


@router.get(
    "/models/{id}/weights",
    summary="Download weights",
    response_class=_Weights,
    responses={
        200: {
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in (WEIGHTS_TYPE, onnx_format.MEDIA_TYPE)
            }
        },
        206: {"description": "The part of the file that Range requests"},
        304: {"description": "The weights are those that you have"},
        307: {"description": "A link to the weights in the object store, valid for 5 minutes"},
    },
)
def download_model_weights(model_id: Id, service: ReaderDep, request: Request) -> Response:
    """Download the weights as safetensors, with the spec of the network in the metadata, or the ONNX file.

    Supports range requests.
    """
    model = use_cases.get_model(service, model_id)
    if model.file_sha256 is None:
        raise ModelNotReady(
            f"Model {model.id} is {model.status} and has no weights to download. Wait until it is ready, or choose another model."
        )
    digest = format_digest(model.file_sha256)
    headers = {"ETag": f'"{model.file_sha256}"', "Repr-Digest": digest}
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if service.settings.store_links and (link := service.storage.link(model.file_sha256, LINK_SECONDS)) is not None:
        return RedirectResponse(link, headers={**headers, "Cache-Control": "no-store"})
    if "Range" not in request.headers:
        headers["Content-Digest"] = digest
    try:
        return _Weights.for_model(service, model, model.file_sha256, headers)
    except FileLost as lost:
        record_lost(service.sessions, lost)
        raise
