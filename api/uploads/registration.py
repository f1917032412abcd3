"""Receive an uploaded file and register it as a model or a data set; routes and pages call these."""

from fastapi import Request

from api.schemas.rows import describe_dataset, describe_model
from api.serving.dependencies import Service
from api.uploads import forms
from api.uploads.receiving import UploadKind, receive
from faal_client.resources.objects import DatasetResource, ModelResource
from jobs import dataset_registry, model_registry
from jobs.database import read_owner
from jobs.storage import StoredFile

_MODEL = UploadKind(forms.detect_model_type, forms.read_model_form)
_DATASET = UploadKind(forms.detect_dataset_type, forms.read_dataset_form)


def register_model(request: Request, service: Service, idempotency_key: str | None = None) -> ModelResource:
    """Register the uploaded model, commit it, and queue its check. Raises: the errors of `receive` and `register_upload`."""
    with receive(request, service, idempotency_key, _MODEL) as upload:
        return register_stored_model(service, upload.file, upload.form, idempotency_key)


def register_stored_model(
    service: Service, file: StoredFile, form: forms.ModelForm, idempotency_key: str | None = None
) -> ModelResource:
    """Register the model of a stored file, commit it, and queue its check. Raises: the errors of `register_upload`."""
    with service.sessions.begin() as session:
        row, check = model_registry.register_upload(
            session,
            name=form.name,
            spec=form.spec,
            weights_key=form.weights_key,
            upload=file,
            owner=read_owner(session),
            submitted_by=service.key_name,
            idempotency_key=idempotency_key,
            quota=service.settings.quota,
            storage=service.storage,
        )
        model, check_id = describe_model(row), check.id
    service.queue.ring(check_id)
    return model


def register_dataset(request: Request, service: Service, idempotency_key: str | None = None) -> DatasetResource:
    """Register the uploaded data set, commit it, and queue its check. Raises: as `register_model`."""
    with receive(request, service, idempotency_key, _DATASET) as upload, service.sessions.begin() as session:
        row, check = dataset_registry.register_upload(
            session,
            name=upload.form,
            upload=upload.file,
            owner=read_owner(session),
            submitted_by=service.key_name,
            idempotency_key=idempotency_key,
            quota=service.settings.quota,
            storage=service.storage,
        )
        dataset, check_id = describe_dataset(row), check.id
    service.queue.ring(check_id)
    return dataset
