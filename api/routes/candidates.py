"""Candidates of a fine-tuning's report: have a model made of one."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.access.authentication import SubmitterDep
from api.schemas.resources import ModelResource
from api.serving.dependencies import Id, Service
from jobs import candidates
from jobs.states import UploadState

router = APIRouter(tags=["jobs"])

Number = Annotated[int, Path(ge=0, le=1000, description="the candidate's place in the report's `candidates`, from 0")]


@router.post(
    "/jobs/{id}/candidates/{number}",
    status_code=202,
    summary="Make a model of a candidate",
    responses={200: {"model": ModelResource, "description": "There is such a model, and it is ready"}},
)
def make_candidate(job_id: Id, number: Number, service: SubmitterDep, response: Response) -> ModelResource:
    """Return the model of a candidate in a fine-tuning's report: `validating` until a worker has made it, then `ready`.

    Asked again, the same model is returned. Candidate 0 is the given model, and the one that was kept is the job's own result.
    """
    model = candidate_model(service, job_id, number)
    response.headers["Location"] = f"/models/{model.id}"
    if model.status is UploadState.READY:
        response.status_code = 200
    return model


def candidate_model(service: Service, job_id: str, number: int) -> ModelResource:
    """Return the model, committed, the job that makes it rung. Raises: what `candidates.make_model` does."""
    with service.sessions.begin() as session:
        row, job = candidates.make_model(session, job_id, number, quota=service.settings.quota)
        model, making = ModelResource.of(row), None if job is None else job.id
    if making is not None:
        service.queue.ring(making)
    return model
