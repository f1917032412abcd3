"""Estimate the cost of a job before it is submitted."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.access.authentication import SubmitterDep
from api.schemas.requests import AuditEstimate, FinetuneEstimate
from api.serving.estimating import estimate_cost
from faal_client.resources.objects import EstimateResource

router = APIRouter(tags=["jobs"])

_EXAMPLE = {
    "kind": "audit",
    "model": "model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b",
    "dataset": "cifar10",
    "threat": {"epsilon": "8/255"},
    "attacks": "standard",
}


@router.post("/jobs/estimate", summary="Estimate the cost of a job")
def estimate_job(
    body: Annotated[AuditEstimate | FinetuneEstimate, Field(discriminator="kind", examples=[_EXAMPLE])],
    service: SubmitterDep,
) -> EstimateResource:
    """Estimate the network passes and the minutes of a job. Starts nothing; validates exactly as a submission does.

    The minutes are based on the newest report about the model, or else about another model of the same architecture.
    """
    return estimate_cost(service, body)
