"""The outcomes of the images of an audit, as a Parquet file."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.access.authentication import ReaderDep
from api.serving.dependencies import Id
from api.serving.stored_files import StoredFileResponse, answer_with_file, describe_answers
from faal_core.results.outcomes import PARQUET_TYPE
from jobs import queries

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{id}/outcomes",
    summary="Download the outcome of each image",
    response_class=StoredFileResponse,
    responses=describe_answers(PARQUET_TYPE),
)
def download_job_outcomes(
    job_id: Id,
    service: ReaderDep,
    request: Request,
    audit: Annotated[
        Literal["before", "after"],
        Query(description="audit of a fine-tuning: before or after the training. An audit job has only one audit."),
    ] = "after",
) -> Response:
    """Download the outcome of each image of an audit as a Parquet file: class, predictions, the attack that broke it.

    The reference of reports explains the columns. Supports range requests.
    """
    with service.sessions() as session:
        row = queries.find_outcomes(session, job_id, audit)
    return answer_with_file(service, request, row.sha256, media_type=PARQUET_TYPE, filename=f"{job_id}-{row.name}")
