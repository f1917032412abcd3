"""Gates: the report of a job is judged by a policy, in the request."""

from fastapi import APIRouter

from api.access.authentication import ReaderDep
from api.schemas.requests import PolicyRequest
from api.serving import gates
from api.serving.dependencies import Id
from faal_core.results.gates.documents import GateResult

router = APIRouter(tags=["jobs"])


@router.post("/jobs/{id}/gate", summary="Judge a report by a policy")
def judge_job(job_id: Id, body: PolicyRequest, service: ReaderDep) -> GateResult:
    """Judge the report of a job by a policy, and return the result: pass, fail or undecided. The service does not store it.

    A fine-tuning is judged by the audit of its new weights; its baseline is the audit of the original weights. A comparison of
    the same images is judged by its second audit; its baseline is the first one.
    """
    return gates.judge_job(service, job_id, body)
