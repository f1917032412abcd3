"""What tests of jobs begin with, a model that is ready and an audit of it in the queue, and what they look at."""

from typing import Any

from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs import lifecycle, model_registry, queries
from jobs.database import Sessions
from jobs.outcomes import StoredClassifier
from jobs.settings import NO_QUOTA, Quota, Settings
from jobs.states import JobKind
from jobs.storage import Stored
from jobs.submission import Submission, submit
from jobs.tables import Job, JobEvent

SITE = Settings(named_datasets="mnist", pools="h100,a10")
WORKER: dict[str, Any] = {"worker": "host:1", "lease_seconds": 60}
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10, class_names=tuple("0123456789"))
UPLOAD = Stored("a" * 64, 4, "application/octet-stream")
WEIGHTS = Stored("b" * 64, 5, "application/vnd.safetensors")

WEIGHTS_SHA256 = "d" * 64


def ready_model(sessions: Sessions, owner: str = "ann") -> str:
    """Id of a model that was uploaded and has passed its check."""
    with sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="digits", spec=SPEC, upload=UPLOAD, owner=owner)
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(WEIGHTS, SPEC, WEIGHTS_SHA256))
        return model.id


def queued_audit(
    sessions: Sessions, model_id: str, *, owner: str = "ann", key: str | None = None, seed: int = 0, **fields: Any
) -> str:
    """Id of a queued audit of that model."""
    with sessions.begin() as session:
        job = submitted(
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


def submitted(session: Session, quota: Quota = NO_QUOTA, **fields: Any) -> Job:
    """A queued job with those fields, on a site that has MNIST and two pools of workers."""
    site = SITE.model_copy(update={"quota_jobs": quota.jobs, "quota_bytes": quota.bytes})
    return submit(session, site, Submission(**fields))


def claimed(sessions: Sessions, job_id: str, **lease: object) -> int:
    """The attempt of a worker that has claimed the job."""
    with sessions.begin() as session:
        job = lifecycle.claim(session, job_id, **{**WORKER, **lease})
    assert job is not None
    return job.attempt


def swept(sessions: Sessions) -> None:
    """Do to the jobs table what a sweep does."""
    with sessions.begin() as session:
        lifecycle.expire(session)
        lifecycle.take_back(session)


def job_of(sessions: Sessions, job_id: str) -> Job:
    """The job as it is."""
    with sessions() as session:
        return queries.job(session, job_id)


def events_of(sessions: Sessions, job_id: str) -> list[JobEvent]:
    """What happened to it."""
    with sessions() as session:
        return list(queries.events(session, job_id))


def kinds_of(sessions: Sessions, job_id: str) -> list[str]:
    """The kinds of that."""
    return [event.kind for event in events_of(sessions, job_id)]
