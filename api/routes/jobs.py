"""Jobs: submit one, follow it, call it off, pause it, try it again, delete it."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.problems.errors import FieldError, InvalidRequest
from api.schemas.requests import METADATA_KEY, AuditRequest, FinetuneRequest
from api.schemas.resources import JobResource, Line, Page
from api.serving.dependencies import After, Id, IdempotencyKey, Limit, Service
from api.serving.negotiation import unchanged
from faal_core.specs import AuditSpec, FinetuneSpec
from jobs import control, queries, removal, submission
from jobs.states import CHECKS, JobKind, JobState
from jobs.submission import Submission

router = APIRouter(tags=["jobs"])


@router.post("/jobs/finetune", status_code=202, summary="Fine-tune a model: audit, train, audit again")
def submit_finetune(
    body: FinetuneRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """The queued job. Its report has both audits and compares them class by class; its result is a new model."""
    job = submit(service, body, body.spec, JobKind.FINETUNE, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


@router.post("/jobs/audit", status_code=202, summary="Judge a model class by class")
def submit_audit(
    body: AuditRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """The queued job. Its report has the clean and robust accuracy of each class."""
    job = submit(service, body, body.spec, JobKind.AUDIT, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


def submit(
    service: Service,
    body: FinetuneRequest | AuditRequest,
    spec: FinetuneSpec | AuditSpec,
    kind: JobKind,
    idempotency_key: str | None,
) -> JobResource:
    """Submit a job, commit it and ring. Raises: the errors of `submission.submit`."""
    with service.sessions.begin() as session:
        job = JobResource.of(
            submission.submit(session, service.settings, submission_of(service, body, spec, kind, idempotency_key))
        )
    service.queue.ring(job.id, job.pool)
    return job


def submission_of(
    service: Service,
    body: FinetuneRequest | AuditRequest,
    spec: FinetuneSpec | AuditSpec,
    kind: JobKind,
    idempotency_key: str | None = None,
) -> Submission:
    """Return the submission that the owner's request asks for. Raises: InvalidRequest for a pool that the site has not."""
    require_pool(service, body.pool)
    return Submission(
        kind=kind,
        model_id=body.model,
        dataset=body.dataset,
        spec=spec.model_dump(mode="json"),
        owner=service.owner,
        max_priority=service.max_priority,
        idempotency_key=idempotency_key,
        **body.terms,
    )


def require_pool(service: Service, pool: str | None) -> None:
    """Check that the site has that pool of workers. Raises: InvalidRequest."""
    offered = service.settings.offered_pools
    if pool is not None and pool not in offered:
        raise InvalidRequest.at("/pool", f"there is no pool {pool!r}; this site has {', '.join(offered) or 'none'}")


@router.get("/jobs", summary="List jobs, newest first")
def list_jobs(
    service: ReaderDep,
    after: After = None,
    limit: Limit = 20,
    status: JobState | None = None,
    kind: JobKind | None = None,
    model: Annotated[Line | None, Query(max_length=100, description="jobs about this model")] = None,
    metadata: Annotated[list[Line] | None, Query(max_length=16, description="`key:value`, all of them")] = None,
) -> Page[JobResource]:
    """Jobs of every kind, the checks of uploads included, that fit all filters given."""
    pairs = dict(_pair(item) for item in metadata or [])
    with service.sessions() as session:
        page = queries.list_jobs(
            session, after=after, limit=limit, status=status, kind=kind, model_id=model, metadata=pairs
        )
    return Page[JobResource].of(page, JobResource.of)


def _pair(item: str) -> tuple[str, str]:
    key, separator, value = item.partition(":")
    if not separator or not re.fullmatch(METADATA_KEY, key):
        detail = f"{item!r} is not written as key:value"
        raise InvalidRequest(detail, FieldError(parameter="metadata", detail=detail))
    return key, value


@router.get(
    "/jobs/{id}",
    response_model=JobResource,
    summary="One job",
    responses={304: {"description": "As in the version you have"}},
)
def get_job(job_id: Id, service: ReaderDep, request: Request, response: Response) -> JobResource | Response:
    """What was asked for and where it stands. Send the ETag back in If-None-Match to be told only of changes."""
    with service.sessions() as session:
        row = queries.job(session, job_id)
        job, etag = JobResource.of(row), f'W/"{row.version}"'
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return job


@router.post("/jobs/{id}/cancel", status_code=202, summary="Call a job off")
def cancel_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """The job: cancelled at once if it was queued or paused; a running one stops within seconds, follow it to see."""
    with service.sessions.begin() as session:
        job = JobResource.of(control.cancel(session, job_id))
    if job.kind in CHECKS:
        removal.collect_now(service.sessions, service.storage)
    return job


@router.post("/jobs/{id}/pause", status_code=202, summary="Set a job aside")
def pause_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """The job: paused at once if it was queued; a running one stops within seconds and keeps its last checkpoint."""
    with service.sessions.begin() as session:
        return JobResource.of(control.pause(session, job_id))


@router.post("/jobs/{id}/resume", status_code=202, summary="Go on with a paused job")
def resume_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """The job, queued again; it goes on from its last checkpoint, to the result it would have had."""
    with service.sessions.begin() as session:
        job = JobResource.of(control.resume(session, job_id))
    service.queue.ring(job.id, job.pool)
    return job


@router.post("/jobs/{id}/retry", status_code=202, summary="Try a job again that failed or was cancelled")
def retry_job(
    job_id: Id, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """A new job that asks for the same, but for the deadline; the old one stays as it is."""
    with service.sessions.begin() as session:
        job = JobResource.of(
            control.retry(
                session,
                service.settings,
                job_id,
                owner=service.owner,
                idempotency_key=idempotency_key,
                max_priority=service.max_priority,
            )
        )
        require_pool(service, job.pool)
    service.queue.ring(job.id, job.pool)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


@router.delete("/jobs/{id}", status_code=204, summary="Delete a job that has ended")
def delete_job(job_id: Id, service: SubmitterDep) -> None:
    """Nothing: its events and its report are gone with it; a model that it made stays."""
    with service.sessions.begin() as session:
        removal.remove_job(session, job_id)
    removal.collect_now(service.sessions, service.storage)
