"""Comparisons of audits that other jobs have made."""

from fastapi import APIRouter, Response

from api.access.authentication import SubmitterDep
from api.schemas.requests import CompareRequest
from api.serving import use_cases
from api.serving.dependencies import IdempotencyKey
from faal_client.resources.objects import JobResource

router = APIRouter(tags=["jobs"])


@router.post("/jobs/compare", status_code=202, summary="Compare audits")
def submit_comparison(
    body: CompareRequest, service: SubmitterDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobResource:
    """Submit a comparison of the audits of other jobs, and return the queued job. No model runs.

    Two audits of the same images are compared image by image, two of different images by their counts. Different radii or
    attacks are refused for two audits; the table of three or more lists them. The compared jobs cannot be deleted until the
    comparison has ended.
    """
    job = use_cases.submit_comparison(service, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job
