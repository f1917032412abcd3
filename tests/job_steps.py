"""Steps that tests of jobs share: add a model, queue an audit, claim it, sweep, and load the results."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from faal_core.results.schedule import Batch
from faal_core.specs import ClassifierSpec
from jobs import lifecycle, model_registry, queries, sharing
from jobs.database import Sessions
from jobs.results import StoredClassifier
from jobs.settings import NO_QUOTA, Quota, Settings
from jobs.sharing import AuditKey
from jobs.states import JobKind
from jobs.storage import StoredFile
from jobs.submission import Submission, submit
from jobs.tables import Job, JobEvent

SITE = Settings(named_datasets="mnist", pools="h100,a10")
WORKER: dict[str, Any] = {"worker": "host:1", "lease_seconds": 60}
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10, class_names=tuple("0123456789"))
UPLOAD = StoredFile("a" * 64, 4, "application/octet-stream")
WEIGHTS = StoredFile("b" * 64, 5, "application/vnd.safetensors")

WEIGHTS_SHA256 = "d" * 64
BATCHES = [Batch(0, 0, (4 * i, 4 * i + 1)) for i in range(8)]


def add_ready_model(
    sessions: Sessions,
    owner: str = "ann",
    name: str = "digits",
    *,
    weights_sha256: str = WEIGHTS_SHA256,
    spec: ClassifierSpec = SPEC,
) -> str:
    """Add a model that was uploaded and has passed its check; return its id."""
    with sessions.begin() as session:
        model, check = model_registry.register_upload(session, name=name, spec=spec, upload=UPLOAD, owner=owner)
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(WEIGHTS, spec, weights_sha256))
        return model.id


def queue_audit(
    sessions: Sessions, model_id: str, *, owner: str = "ann", key: str | None = None, seed: int = 0, **fields: Any
) -> str:
    """Queue an audit of that model and return its id."""
    with sessions.begin() as session:
        job = submit_job(
            session,
            kind=JobKind.AUDIT,
            model_id=model_id,
            dataset="fashion-mnist-subset",
            spec={"seed": seed},
            owner=owner,
            idempotency_key=key,
            **fields,
        )
        return job.id


def submit_job(session: Session, quota: Quota = NO_QUOTA, **fields: Any) -> Job:
    """Submit a job with those fields, on a site that has MNIST and two pools of workers."""
    site = SITE.model_copy(update={"quota_jobs": quota.jobs, "quota_bytes": quota.bytes})
    return submit(session, site, Submission(**fields))


def claim_job(sessions: Sessions, job_id: str, **lease: object) -> int:
    """Claim the job as a worker and return the attempt."""
    with sessions.begin() as session:
        job = lifecycle.claim(session, job_id, **{**WORKER, **lease})
    assert job is not None
    return job.attempt


def share_audit(
    sessions: Sessions,
    *,
    batches: Sequence[Batch] = BATCHES,
    owner: str = "ann",
    identity: str = "i",
    environment: str = "e",
    **fields: Any,
) -> AuditKey:
    """Run an audit of that owner in its first attempt, which offers the batches; return the audit's key."""
    key = AuditKey(queue_audit(sessions, add_ready_model(sessions, owner=owner), owner=owner, **fields), identity)
    claim_job(sessions, key.job_id)
    with sessions.begin() as session:
        assert sharing.open_audit(session, key, 1, environment=environment, body={}) == []
        sharing.offer(session, key, 1, enumerate(batches))
    return key


def run_sweep(sessions: Sessions) -> None:
    """Change the jobs table as a sweep does."""
    with sessions.begin() as session:
        lifecycle.fail_overdue(session)
        lifecycle.take_back(session)


def load_job(sessions: Sessions, job_id: str) -> Job:
    """Return the job's current row."""
    with sessions() as session:
        return queries.find_job(session, job_id)


def load_events(sessions: Sessions, job_id: str) -> list[JobEvent]:
    """Return the job's events."""
    with sessions() as session:
        return list(queries.list_events(session, job_id))


def load_event_kinds(sessions: Sessions, job_id: str) -> list[str]:
    """Return the kinds of the job's events."""
    return [event.kind for event in load_events(sessions, job_id)]
