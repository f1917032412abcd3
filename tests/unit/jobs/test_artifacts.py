"""The file a model was uploaded as goes when nothing needs it."""

from jobs import artifacts, model_registry
from jobs.storage import Storage
from tests.registered import SPEC, UPLOAD, WEIGHTS, ready_model


def test_checked_upload_is_forgotten(sessions):
    """After its check the model and the table of files know nothing of the uploaded file, and the converted one stays."""
    model_id = ready_model(sessions)
    with sessions.begin() as session:
        model = model_registry.model(session, model_id)
        assert artifacts.forget_upload(session, model) == UPLOAD.sha256
    with sessions() as session:
        assert model_registry.model(session, model_id).upload_sha256 is None
        assert artifacts.artifact(session, UPLOAD.sha256) is None
        assert artifacts.artifact(session, WEIGHTS.sha256) is not None


def test_shared_upload_is_kept_to_the_last(sessions):
    """A file that was uploaded twice is forgotten with the second model."""
    first, second = ready_model(sessions), ready_model(sessions)
    with sessions.begin() as session:
        assert artifacts.forget_upload(session, model_registry.model(session, first)) is None
    with sessions.begin() as session:
        assert artifacts.forget_upload(session, model_registry.model(session, second)) == UPLOAD.sha256


def test_upload_that_became_the_model_is_kept(sessions):
    """A file that was in our own format already is what the model consists of now."""
    model_id = ready_model(sessions)
    with sessions.begin() as session:
        uploaded, _ = model_registry.register_upload(session, name="again", spec=SPEC, upload=WEIGHTS, owner="ann")
        assert artifacts.forget_upload(session, uploaded) is None
    with sessions() as session:
        assert model_registry.model(session, model_id).sha256 == WEIGHTS.sha256


def test_nothing_to_forget(sessions):
    """A model without an uploaded file has none to forget."""
    model_id = ready_model(sessions)
    for expected in (UPLOAD.sha256, None):
        with sessions.begin() as session:
            assert artifacts.forget_upload(session, model_registry.model(session, model_id)) == expected


def test_removed_file_is_gone(tmp_path):
    """A removed file is not in storage any more, and removing it again does no harm."""
    storage = Storage(tmp_path)
    sha256 = storage.put([b"weights"], media_type="application/octet-stream").sha256
    storage.remove(sha256)
    storage.remove(sha256)
    assert not storage.path(sha256).exists()
