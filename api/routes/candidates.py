"""Candidates of a fine-tuning's report: make a model of one."""

from fastapi import APIRouter, Response

from api.access.authentication import SubmitterDep
from api.serving import use_cases
from api.serving.dependencies import Id, Number
from faal_client.resources.objects import ModelResource
from jobs.states import UploadState

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{id}/candidates/{number}",
    status_code=202,
    summary="Make a model of a candidate",
    responses={200: {"model": ModelResource, "description": "The model exists already, and is ready"}},
)
def make_candidate(job_id: Id, number: Number, service: SubmitterDep, response: Response) -> ModelResource:
    """Make a model of a candidate in a fine-tuning's report, and return it.

    The model is `validating` until a worker has made it, then `ready`. Repeated requests return the same model.
    Candidate 0 is the given model, and the selected candidate is the job's own result.
    """
    model = use_cases.make_candidate(service, job_id, number)
    response.headers["Location"] = f"/models/{model.id}"
    if model.status is UploadState.READY:
        response.status_code = 200
    return model
