"""What tests of jobs begin with: a model that is ready, and an audit of it in the queue."""

from faal_core.specs import ClassifierSpec
from jobs import lifecycle, model_registry
from jobs.database import Sessions
from jobs.outcomes import StoredClassifier
from jobs.states import JobKind
from jobs.storage import Stored

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10, class_names=tuple("0123456789"))
UPLOAD = Stored("a" * 64, 4, "application/octet-stream")
WEIGHTS = Stored("b" * 64, 5, "application/vnd.safetensors")


def ready_model(sessions: Sessions) -> str:
    """Id of a model that was uploaded and has passed its check."""
    with sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="digits", spec=SPEC, upload=UPLOAD, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(WEIGHTS, SPEC))
        return model.id


def queued_audit(sessions: Sessions, model_id: str, *, key: str | None = None, seed: int = 0) -> str:
    """Id of a queued audit of that model."""
    with sessions.begin() as session:
        job = lifecycle.submit(
            session,
            kind=JobKind.AUDIT,
            model_id=model_id,
            dataset="fashion-mnist-subset",
            spec={"seed": seed},
            owner="ann",
            idempotency_key=key,
        )
        return job.id
