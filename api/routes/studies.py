"""Studies: fine-tunings by several methods with several seeds, as one group of jobs with one table."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.studies import StudyRequest
from api.serving import studies
from api.serving.dependencies import After, Id, IdempotencyKey, Limit
from api.serving.negotiation import choose_media_type, is_unchanged
from api.serving.report_formats import MEDIA_TYPES, answer_with_page
from faal_client.resources.objects import Page
from faal_client.resources.studies import StudyResource, StudyWithRuns
from faal_core.reports import html
from faal_core.results.method_table_documents import MethodTable

router = APIRouter(tags=["studies"])

RETRY_SECONDS = 5


@router.post("/studies", status_code=201, summary="Create a study")
def create_study(
    body: StudyRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> StudyWithRuns:
    """Submit one fine-tuning for each method and seed, and return the study with the queued jobs.

    Either all jobs are submitted or none. Each is an ordinary job, with the id of the study as its metadata `study`.
    """
    study = studies.create_study(service, body, idempotency_key)
    response.headers["Location"] = f"/studies/{study.id}"
    return study


@router.get("/studies", summary="List studies, newest first")
def list_studies(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[StudyResource]:
    """List your studies, with the number of their jobs in each state."""
    return studies.list_studies(service, after=after, limit=limit)


@router.get("/studies/{id}", summary="Get a study with its jobs")
def get_study(study_id: Id, service: ReaderDep) -> StudyWithRuns:
    """Return a study, with the state and the progress of each job."""
    return studies.get_study(service, study_id)


@router.get(
    "/studies/{id}/table",
    summary="Get the table of the methods of a study",
    response_model=MethodTable,
    responses={
        200: {"description": "The table", "content": {"text/html": {"schema": {"type": "string"}}}},
        202: {
            "model": StudyResource,
            "description": "No job has succeeded yet; repeat the request after `Retry-After` seconds",
        },
        304: {"description": "The table is the one that you have"},
        409: {
            "description": "All jobs have ended or were deleted, and none is left that has succeeded: `job-state-conflict`"
        },
    },
)
def get_study_table(
    study_id: Id,
    service: ReaderDep,
    request: Request,
    format: Annotated[  # noqa: A002 - the name in the address
        Literal["json", "html"] | None, Query(description="format of the table, instead of the Accept header")
    ] = None,
) -> Response:
    """Return one row for each method, from the jobs that have succeeded so far, as JSON or HTML.

    `missing` is the number of the other jobs. The answer is 422, `invalid-spec`, if jobs ran on different images.
    """
    study = studies.get_study(service, study_id)
    studies.require_possible_table(study)
    if not studies.has_table(study):
        return JSONResponse(study.model_dump(mode="json"), 202, headers={"Retry-After": str(RETRY_SECONDS)})
    accept = request.headers.get("Accept", "*/*")
    media_type = MEDIA_TYPES[format] if format else choose_media_type(accept, list(MEDIA_TYPES.values()))
    headers = {"ETag": f'W/"{studies.table_version(study)}-{media_type}"', "Vary": "Accept"}
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    table = studies.build_table(service, study_id)
    if media_type == MEDIA_TYPES["html"]:
        return answer_with_page(html.render(table), headers)
    return Response(table.model_dump_json(), media_type=media_type, headers=headers)


@router.post("/studies/{id}/cancel", status_code=202, summary="Cancel the jobs of a study")
def cancel_study(study_id: Id, service: SubmitterDep) -> StudyWithRuns:
    """Cancel the jobs of a study that have not ended, and return the study. Running jobs stop within seconds."""
    return studies.cancel_study(service, study_id)


@router.delete("/studies/{id}", status_code=204, summary="Delete a study")
def delete_study(study_id: Id, service: SubmitterDep) -> None:
    """Delete a study. Its jobs are kept, and jobs that have not ended continue; cancel the study first to stop them."""
    studies.delete_study(service, study_id)
