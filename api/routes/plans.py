"""Plans: audits that run again for each new version of a model, and on a schedule."""

from fastapi import APIRouter, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.requests import PlanChange, PlanRequest
from api.schemas.rows import describe_job, describe_page, describe_plan, describe_plan_history
from api.serving.dependencies import After, Id, Limit, Service
from faal_client.resources.objects import JobResource, Page
from faal_client.resources.plans import PlanHistory, PlanResource
from jobs import plan_runs, plans

router = APIRouter(tags=["plans"])

MOST_RUNS = 100  # in the history of a plan


@router.post("/plans", status_code=201, summary="Create a plan")
def create_plan(body: PlanRequest, service: SubmitterDep, response: Response) -> PlanResource:
    """Create a plan, start its first run with the newest version of the model, and return the plan.

    The first audit that succeeds is the baseline. Every later audit is compared with it image by image. Webhooks receive
    `audit.fell` if an accuracy fell significantly.
    """
    with service.sessions.begin() as session:
        row = plans.add_plan(
            session,
            service.settings,
            owner=service.owner,
            name=body.name,
            model_name=body.model_name,
            dataset=body.dataset,
            spec=body.spec.model_dump(mode="json"),
            policy=None if body.policy is None else body.policy.model_dump(mode="json"),
            every_hours=body.every_hours,
            submitter=_submitter(service),
        )
        plan = describe_plan(row)
    service.queue.ring(plan.current_run or "")
    response.headers["Location"] = f"/plans/{plan.id}"
    return plan


@router.get("/plans", summary="List plans, newest first")
def list_plans(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[PlanResource]:
    """List your plans, including paused ones."""
    with service.sessions() as session:
        page = plans.list_plans(session, after=after, limit=limit)
    return describe_page(page, describe_plan)


@router.get("/plans/{id}", summary="Get a plan with its runs")
def get_plan(plan_id: Id, service: ReaderDep) -> PlanHistory:
    """Return a plan and its last 100 runs."""
    with service.sessions() as session:
        plan, runs = plans.find_plan(session, plan_id), plans.list_runs(session, plan_id, limit=MOST_RUNS)
        return describe_plan_history(plan, runs)


@router.patch("/plans/{id}", summary="Pause or resume a plan, or change its baseline or its policy")
def change_plan(plan_id: Id, body: PlanChange, service: SubmitterDep) -> PlanResource:
    """Change a plan, and return it. A resumed plan audits the newest of the versions that it has missed."""
    with service.sessions.begin() as session:
        if "policy" in body.model_fields_set:
            plans.set_policy(session, plan_id, None if body.policy is None else body.policy.model_dump(mode="json"))
        if body.baseline is not None:
            plans.set_baseline(session, plan_id, body.baseline)
        if body.paused is not None:
            (plans.pause if body.paused else plans.resume)(session, plan_id)
        return describe_plan(plans.find_plan(session, plan_id))


@router.delete("/plans/{id}", status_code=204, summary="Delete a plan")
def delete_plan(plan_id: Id, service: SubmitterDep) -> None:
    """Delete a plan and its list of runs. Its jobs are kept, and an audit that has not ended continues."""
    with service.sessions.begin() as session:
        plans.remove_plan(session, plan_id)


@router.post("/plans/{id}/run", status_code=202, summary="Run a plan now")
def run_plan(plan_id: Id, service: SubmitterDep, response: Response) -> JobResource:
    """Audit the newest version of the model now, and return the queued job. A paused plan runs, too.

    The answer is 409, `job-state-conflict`, while a run of the plan has not ended.
    """
    with service.sessions.begin() as session:
        job = describe_job(plan_runs.run_now(session, service.settings, plan_id, _submitter(service)))
    service.queue.ring(job.id)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job


def _submitter(service: Service) -> plans.Submitter:
    """Return the API key of the request."""
    return plans.Submitter(service.key_name, service.max_priority)
