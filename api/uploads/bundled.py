"""The classifier that FAAL bundles, as a model of the service to try it with."""

from importlib.resources import files

from api.schemas.rows import describe_model
from api.serving.dependencies import Service
from api.uploads import forms
from api.uploads.registration import register_stored_model
from api.uploads.upload_reader import HEAD, UploadedForm
from faal_client.resources.objects import ModelResource
from jobs import model_registry, removal

CLASSIFIER = files("faal_core").joinpath("bundled/classifier.safetensors")
NAME = "bundled classifier"
DATASET = "fashion-mnist-subset"  # bundled too; the classifier was trained on it
EPSILON = 0.1  # the radius that it was trained against
IMAGES = 2000  # test images with which a first audit takes seconds to minutes


def register_bundled_model(service: Service) -> ModelResource:
    """Return the owner's bundled model; register it where there is none, and queue its check.

    Raises: QuotaExceeded, StorageFull, StoreUnavailable.
    """
    content = CLASSIFIER.read_bytes()
    form = forms.read_model_form(UploadedForm({"name": NAME}, "", content[:HEAD]))
    file = service.storage.put([content], media_type=forms.detect_model_type(content[:HEAD]))
    with removal.discard_on_failure(service.sessions, service.storage, file):
        with service.sessions() as session:
            present = model_registry.find_upload(session, name=form.name, spec=form.spec, upload=file)
        model = register_stored_model(service, file, form) if present is None else describe_model(present)
    removal.discard(service.sessions, service.storage, [file.sha256])
    return model
