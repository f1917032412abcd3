"""A job's report: what clients poll until it is there."""

from functools import lru_cache
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api.access.authentication import ReaderDep
from api.schemas.resources import Amount, Pending
from api.serving.dependencies import Id
from api.serving.negotiation import preferred, unchanged
from faal_core.reports import html
from faal_core.results.reading import Report, read_report
from jobs import queries
from jobs.errors import JobStateConflict
from jobs.states import JobKind

router = APIRouter(tags=["jobs"])

RETRY_SECONDS = 2
MEDIA_TYPES = {"json": "application/json", "html": "text/html"}

# The page has its own style sheet inside; nothing in it may run or be fetched.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


@router.get(
    "/jobs/{id}/report",
    summary="The report of a job, or how far it is",
    response_model=Report,
    responses={
        200: {"description": "The report", "content": {"text/html": {"schema": {"type": "string"}}}},
        202: {"model": Pending, "description": "Not there yet; ask again after `Retry-After` seconds"},
        304: {"description": "As in the version you have"},
        409: {"description": "There will be none: `job-failed` with the job's own error, or `job-cancelled`"},
    },
)
def get_job_report(
    job_id: Id,
    service: ReaderDep,
    request: Request,
    format: Annotated[  # noqa: A002 - the name in the address
        Literal["json", "html"] | None, Query(description="instead of the Accept header")
    ] = None,
) -> Response:
    """202 with the job's progress until the report is there; then the report, by Accept as JSON (as stored) or HTML.

    That of an audit that was cancelled is of what it had found: where `untried` of an attack is above 0, the true robust
    accuracy may be lower still.
    """
    with service.sessions() as session:
        job = queries.job(session, job_id)
        if job.kind not in (JobKind.AUDIT, JobKind.FINETUNE):
            raise JobStateConflict(
                f"Job {job.id} checks an upload and makes no report; the upload itself tells the outcome."
            )
        report = queries.report(session, job_id)
        pending = Pending(job=job.id, status=job.state, stage=job.stage, progress=Amount.of(job))
        document, version = None if report is None else report.document, job.version
    if document is None:
        return JSONResponse(pending.model_dump(mode="json"), 202, headers={"Retry-After": str(RETRY_SECONDS)})
    media_type = (
        MEDIA_TYPES[format] if format else preferred(request.headers.get("Accept", "*/*"), list(MEDIA_TYPES.values()))
    )
    headers = {"ETag": f'W/"{version}-{media_type}"', "Vary": "Accept"}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if media_type == MEDIA_TYPES["html"]:
        return Response(
            page_of(document), media_type="text/html", headers=headers | {"Content-Security-Policy": REPORT_POLICY}
        )
    return Response(document, media_type="application/json", headers=headers)


@lru_cache(maxsize=16)
def page_of(document: str) -> str:
    """The report of that JSON as a page; drawing takes about a second, so the last few are kept."""
    return html.render(read_report(document))
