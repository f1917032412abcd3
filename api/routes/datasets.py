"""Uploaded data sets: upload, get, list and delete them. The catalog lists the data sets with a name."""

from fastapi import APIRouter, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.rows import describe_dataset
from api.serving import use_cases
from api.serving.dependencies import After, Id, IdempotencyKey, Limit
from api.uploads.registration import register_dataset
from faal_client.resources.objects import DatasetResource, Page
from jobs import dataset_registry

router = APIRouter(tags=["data sets"])

_FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "an .npz file with train_images, train_labels, test_images, test_labels, class_names, "
            "or a zip archive with train/<class>/*.png, test/<class>/*.png and optionally val/<class>/*.png; a file labels.csv "
            "can label the images instead of folders. The part's own headers may carry Content-Digest or Repr-Digest (sha-256) "
            "of the file; those of the request apply to the whole body.",
        },
        "upload": {
            "type": "string",
            "description": "instead of a file, the id of an upload in parts (`POST /uploads`)",
        },
        "name": {"type": "string", "maxLength": 200, "description": "name for people; default: the file's name"},
    },
    "examples": [{"file": "signs.npz", "name": "street signs, March"}],
}


@router.post(
    "/datasets",
    status_code=202,
    summary="Upload a data set",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
def upload_dataset(
    request: Request, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> DatasetResource:
    """Upload a data set, and return it: `validating` until a worker has checked it, then `ready` or `rejected`."""
    dataset = register_dataset(request, service, idempotency_key)
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return dataset


@router.get("/datasets", summary="List uploaded data sets, newest first")
def list_datasets(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[DatasetResource]:
    """List the uploaded data sets. `GET /catalog` lists those that have a name."""
    return use_cases.list_datasets(service, after=after, limit=limit)


@router.get("/datasets/{id}", summary="Get an uploaded data set")
def get_dataset(dataset_id: Id, service: ReaderDep) -> DatasetResource:
    """Return an uploaded data set: its state and a summary of its content."""
    with service.sessions() as session:
        return describe_dataset(dataset_registry.find_dataset(session, dataset_id))


@router.delete("/datasets/{id}", summary="Delete an uploaded data set")
def delete_dataset(dataset_id: Id, service: SubmitterDep) -> DatasetResource:
    """Delete the file of a data set. The data set is kept, as `deleted`, for the jobs that name it."""
    return use_cases.delete_dataset(service, dataset_id)
