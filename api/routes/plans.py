"""Plans: audits that run again for each new version of a model, and on a schedule."""

from fastapi import APIRouter, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.requests import PlanChange, PlanRequest
from api.serving import plans
from api.serving.dependencies import After, Id, Limit
from faal_client.resources.objects import JobResource, Page
from faal_client.resources.plans import PlanHistory, PlanResource

router = APIRouter(tags=["plans"])


@router.post("/plans", status_code=201, summary="Create a plan")
def create_plan(body: PlanRequest, service: SubmitterDep, response: Response) -> PlanResource:
    """Create a plan, start its first run with the newest version of the model, and return the plan.

    The first audit that succeeds is the baseline. Every later audit is compared with it image by image. Webhooks receive
    `audit.fell` if an accuracy fell significantly.
    """
    plan = plans.create_plan(service, body)
    response.headers["Location"] = f"/plans/{plan.id}"
    return plan


@router.get("/plans", summary="List plans, newest first")
def list_plans(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[PlanResource]:
    """List your plans, including paused ones."""
    return plans.list_plans(service, after=after, limit=limit)


@router.get("/plans/{id}", summary="Get a plan with its runs")
def get_plan(plan_id: Id, service: ReaderDep) -> PlanHistory:
    """Return a plan and its last 100 runs."""
    return plans.get_plan(service, plan_id)


@router.patch("/plans/{id}", summary="Pause or resume a plan, or change its baseline or its policy")
def change_plan(plan_id: Id, body: PlanChange, service: SubmitterDep) -> PlanResource:
    """Change a plan, and return it. A resumed plan audits the newest of the versions that it has missed."""
    return plans.change_plan(service, plan_id, body)


@router.delete("/plans/{id}", status_code=204, summary="Delete a plan")
def delete_plan(plan_id: Id, service: SubmitterDep) -> None:
    """Delete a plan and its list of runs. Its jobs are kept, and an audit that has not ended continues."""
    plans.delete_plan(service, plan_id)


@router.post("/plans/{id}/run", status_code=202, summary="Run a plan now")
def run_plan(plan_id: Id, service: SubmitterDep, response: Response) -> JobResource:
    """Audit the newest version of the model now, and return the queued job. A paused plan runs, too.

    The answer is 409, `job-state-conflict`, while a run of the plan has not ended.
    """
    job = plans.run_plan(service, plan_id)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job
