"""A job's report, which clients poll until it exists."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api.access.authentication import ReaderDep
from api.schemas.rows import describe_progress
from api.serving.dependencies import Id
from api.serving.negotiation import choose_media_type, is_unchanged
from api.serving.report_formats import MEDIA_TYPES, answer_with_report
from faal_client.resources.objects import Pending
from faal_core.results.reading import JobReport
from jobs import queries
from jobs.errors import JobStateConflict
from jobs.states import REPORTING

router = APIRouter(tags=["jobs"])

RETRY_SECONDS = 2


@router.get(
    "/jobs/{id}/report",
    summary="Get the report of a job, or its progress",
    response_model=JobReport,
    responses={
        200: {"description": "The report", "content": {"text/html": {"schema": {"type": "string"}}}},
        202: {"model": Pending, "description": "The job has not ended; repeat the request after `Retry-After` seconds"},
        304: {"description": "The report is the one that you have"},
        409: {
            "description": "The job ended without a report: `job-failed` with the job's own error, or `job-cancelled`"
        },
    },
)
def get_job_report(
    job_id: Id,
    service: ReaderDep,
    request: Request,
    format: Annotated[  # noqa: A002 - the name in the address
        Literal["json", "html"] | None, Query(description="format of the report, instead of the Accept header")
    ] = None,
) -> Response:
    """Return the report of a job as JSON or HTML; until the job ends, return 202 with its progress.

    A cancelled audit reports the results so far: if `untried` of an attack is above 0, the true robust accuracy may be lower
    still.
    """
    with service.sessions() as session:
        job = queries.find_job(session, job_id)
        if job.kind not in REPORTING:
            raise JobStateConflict(
                f"Job {job.id} is of kind {job.kind}, which makes no report. Read the model or data set instead."
            )
        report = queries.find_report(session, job_id)
        pending = Pending(job=job.id, status=job.state, stage=job.stage, progress=describe_progress(job))
        document, version = None if report is None else report.document, job.version
    if document is None:
        return JSONResponse(pending.model_dump(mode="json"), 202, headers={"Retry-After": str(RETRY_SECONDS)})
    media_type = (
        MEDIA_TYPES[format]
        if format
        else choose_media_type(request.headers.get("Accept", "*/*"), list(MEDIA_TYPES.values()))
    )
    headers = {"ETag": f'W/"{version}-{media_type}"', "Vary": "Accept"}
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return answer_with_report(document, media_type, headers)
