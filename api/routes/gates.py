"""Gates: the report of a job is judged by a policy, in the request."""

from fastapi import APIRouter

from api.access.authentication import ReaderDep
from api.problems.errors import InvalidRequest
from api.schemas.requests import PolicyRequest
from api.serving.dependencies import Id
from faal_core.results.gates.documents import GateResult
from faal_core.results.reading import read_any_report
from faal_core.specs import Policy
from jobs import queries

router = APIRouter(tags=["jobs"])


@router.post("/jobs/{id}/gate", summary="Judge a report by a policy")
def judge_job(job_id: Id, body: PolicyRequest, service: ReaderDep) -> GateResult:
    """Judge the report of a job by a policy, and return the result: pass, fail or undecided. The service does not store it.

    A fine-tuning is judged by the audit of its new weights; its baseline is the audit of the original weights. A comparison of
    the same images is judged by its second audit; its baseline is the first one.
    """
    with service.sessions() as session:
        document = queries.require_report(session, job_id).document
    return _judge(job_id, document, body)


def _judge(job_id: str, document: str, policy: Policy) -> GateResult:
    """Return the result. Raises: InvalidRequest without a baseline that the policy needs; InvalidSpec for unknown names."""
    from faal_core.results.gates.judging import judge_audit  # imported here, since SciPy takes a fraction of a second
    from faal_core.results.gates.pairing import separate

    audit, paired = separate(read_any_report(document))
    if policy.baseline is not None and paired is None:
        raise InvalidRequest.for_field(
            "/baseline",
            f"job {job_id} is an audit without a baseline; compare it with an earlier audit by `POST /jobs/compare`, and judge "
            "the comparison",
        )
    return judge_audit(policy, audit, paired)
