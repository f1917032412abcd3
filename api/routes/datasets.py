"""Uploaded data sets: upload one, look one up, list them; those that are offered by name stand in the catalog."""

from fastapi import APIRouter, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.resources import DatasetResource, Page
from api.serving.dependencies import After, Id, IdempotencyKey, Limit, Service
from api.uploads import forms, receiving
from jobs import dataset_registry, removal

router = APIRouter(tags=["data sets"])

_FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "an .npz file with train_images, train_labels, test_images, test_labels, class_names, "
            "or a zip archive with train/<class>/*.png, test/<class>/*.png and perhaps val/<class>/*.png; a file labels.csv may "
            "name the classes instead of folders. Digest fields as for models.",
        },
        "upload": {
            "type": "string",
            "description": "in place of a file, the id of one that came in parts (`POST /uploads`)",
        },
        "name": {"type": "string", "maxLength": 200, "description": "for people; default: the file's name"},
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
    """The data set, `validating` until a worker has checked the file; then `ready`, or `rejected` with a reason."""
    dataset = receive_dataset(request, service, idempotency_key)
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return dataset


def receive_dataset(request: Request, service: Service, idempotency_key: str | None) -> DatasetResource:
    """The uploaded data set, committed, its check rung."""
    received = receiving.receive(
        request, service, idempotency_key, media_type=forms.dataset_media_type, check=forms.read_dataset_form
    )
    with received as upload, service.sessions.begin() as session:
        row, check = dataset_registry.register_upload(
            session,
            name=upload.form,
            upload=upload.file,
            owner=service.owner,
            idempotency_key=idempotency_key,
            quota=service.settings.quota,
            storage=service.storage,
        )
        dataset, check_id = DatasetResource.of(row), check.id
    service.queue.ring(check_id)
    return dataset


@router.get("/datasets", summary="List uploaded data sets, newest first")
def list_datasets(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[DatasetResource]:
    """Uploaded data sets; those that are offered by name stand in the catalog."""
    with service.sessions() as session:
        page = dataset_registry.datasets(session, after=after, limit=limit)
    return Page[DatasetResource].of(page, DatasetResource.of)


@router.get("/datasets/{id}", summary="One uploaded data set")
def get_dataset(dataset_id: Id, service: ReaderDep) -> DatasetResource:
    """What it holds and where it stands."""
    with service.sessions() as session:
        return DatasetResource.of(dataset_registry.dataset(session, dataset_id))


@router.delete("/datasets/{id}", summary="Delete an uploaded data set")
def delete_dataset(dataset_id: Id, service: SubmitterDep) -> DatasetResource:
    """Delete its file. The data set stays, as `deleted`, for the jobs that name it."""
    with service.sessions.begin() as session:
        dataset = DatasetResource.of(removal.remove_dataset(session, dataset_id))
    removal.collect_now(service.sessions, service.storage)
    return dataset
