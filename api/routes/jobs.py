"""Jobs: submit, list, follow, cancel, pause, resume, retry and delete them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.requests import AuditRequest, FinetuneRequest, Line
from api.schemas.rows import describe_job
from api.serving import use_cases
from api.serving.dependencies import After, Id, IdempotencyKey, Limit
from api.serving.job_filters import MetadataPairs, Order, Search, parse_pairs
from api.serving.negotiation import is_unchanged
from faal_client.resources.objects import JobResource, Page
from jobs import queries
from jobs.job_order import NEWEST_FIRST
from jobs.states import JobKind, JobState

router = APIRouter(tags=["jobs"])


@router.post("/jobs/finetune", status_code=202, summary="Fine-tune a model: audit, train, audit again")
def submit_finetune(
    body: FinetuneRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """Submit a fine-tuning, and return the queued job. Its report compares two audits; its result is a new model."""
    job = use_cases.submit_job(service, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


@router.post("/jobs/audit", status_code=202, summary="Audit a model class by class")
def submit_audit(
    body: AuditRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """Submit an audit, and return the queued job. Its report has the clean and robust accuracy of each class."""
    job = use_cases.submit_job(service, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


@router.get("/jobs", summary="List jobs, newest first unless another order is given")
def list_jobs(
    service: ReaderDep,
    after: After = None,
    limit: Limit = 20,
    status: JobState | None = None,
    kind: JobKind | None = None,
    model: Annotated[
        Line | None, Query(max_length=100, description="list only jobs about the model with this id")
    ] = None,
    metadata: MetadataPairs = None,
    search: Search = "",
    checks: Annotated[
        bool, Query(description="whether checks of uploads are listed too, where `kind` is not given")
    ] = True,
    order: Order = NEWEST_FIRST,
) -> Page[JobResource]:
    """List the jobs that match all filters. Checks of uploads are jobs too."""
    return use_cases.list_jobs(
        service,
        after=after,
        limit=limit,
        order=order,
        status=status,
        kind=kind,
        model_id=model,
        metadata=parse_pairs(metadata),
        search=search,
        checks=checks,
    )


@router.get(
    "/jobs/{id}",
    response_model=JobResource,
    summary="Get a job",
    responses={304: {"description": "The job has not changed since the version that you have"}},
)
def get_job(job_id: Id, service: ReaderDep, request: Request, response: Response) -> JobResource | Response:
    """Return the request and the state of a job. To poll, send its ETag in If-None-Match: an unchanged job answers 304."""
    with service.sessions() as session:
        row = queries.find_job(session, job_id)
        job, etag = describe_job(row), f'W/"{row.version}"'
    if is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return job


@router.post("/jobs/{id}/cancel", status_code=202, summary="Cancel a job")
def cancel_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """Cancel a job, and return it. A queued or paused job is cancelled at once; a running one stops within seconds."""
    return use_cases.cancel_job(service, job_id)


@router.post("/jobs/{id}/pause", status_code=202, summary="Pause a job")
def pause_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """Pause a job, and return it. A running job stops within seconds and keeps its last checkpoint."""
    return use_cases.pause_job(service, job_id)


@router.post("/jobs/{id}/resume", status_code=202, summary="Resume a paused job")
def resume_job(job_id: Id, service: SubmitterDep) -> JobResource:
    """Queue a paused job again, and return it. It resumes from its last checkpoint. The pause does not affect its result."""
    return use_cases.resume_job(service, job_id)


@router.post("/jobs/{id}/retry", status_code=202, summary="Retry a job that failed or was cancelled")
def retry_job(
    job_id: Id, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """Submit the job again as a new job without the deadline, and return the new job. The old job does not change."""
    job = use_cases.retry_job(service, job_id, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


@router.delete("/jobs/{id}", status_code=204, summary="Delete a job that has ended")
def delete_job(job_id: Id, service: SubmitterDep) -> None:
    """Delete a job with its events and its report. A model that it made is kept."""
    use_cases.delete_job(service, job_id)
