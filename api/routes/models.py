"""Models: upload, get, list and delete them, list their ancestors, and download weights."""

from fastapi import APIRouter, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.serving import use_cases
from api.serving.dependencies import After, Id, IdempotencyKey, Limit
from api.serving.stored_files import StoredFileResponse, answer_with_file, describe_answers
from api.uploads.registration import register_model
from faal_client.resources.objects import ModelResource, Page
from faal_core.catalog import onnx_format
from jobs.errors import ModelNotReady
from jobs.model_registry import WEIGHTS_TYPE

router = APIRouter(tags=["models"])

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


@router.get(
    "/models/{id}/weights",
    summary="Download weights",
    response_class=StoredFileResponse,
    responses=describe_answers(WEIGHTS_TYPE, onnx_format.MEDIA_TYPE),
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
    is_onnx = model.spec.architecture == onnx_format.ONNX
    return answer_with_file(
        service,
        request,
        model.file_sha256,
        media_type=onnx_format.MEDIA_TYPE if is_onnx else WEIGHTS_TYPE,
        filename=f"{model.name}.{'onnx' if is_onnx else 'safetensors'}",
    )
