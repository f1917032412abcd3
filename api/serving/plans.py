"""The use cases of plans, independent of HTTP. Routes and pages call these functions."""

from collections.abc import Collection, Mapping

from api.schemas.requests import PlanChange, PlanRequest
from api.schemas.rows import describe_job, describe_page, describe_plan, describe_plan_history, describe_plan_run
from api.serving.dependencies import Service
from faal_client.resources.objects import JobResource, Page
from faal_client.resources.plans import PlanHistory, PlanResource, PlanRunResource
from jobs import plan_runs, plans
from jobs.database import read_owner

MOST_RUNS = 100  # in the history of a plan


def create_plan(service: Service, request: PlanRequest) -> PlanResource:
    """Create a plan, start its first run and notify a worker. Raises: the errors of `plans.add_plan`."""
    with service.sessions.begin() as session:
        row = plans.add_plan(
            session,
            service.settings,
            owner=read_owner(session),
            name=request.name,
            model_name=request.model_name,
            dataset=request.dataset,
            spec=request.spec.model_dump(mode="json"),
            policy=None if request.policy is None else request.policy.model_dump(mode="json"),
            every_hours=request.every_hours,
            submitter=_submitter(service),
        )
        plan = describe_plan(row)
    service.queue.ring(plan.current_run or "")
    return plan


def list_plans(service: Service, *, after: str | None = None, limit: int) -> Page[PlanResource]:
    """Return the plans, newest first."""
    with service.sessions() as session:
        return describe_page(plans.list_plans(session, after=after, limit=limit), describe_plan)


def list_newest_runs(service: Service, plan_ids: Collection[str], *, audited: bool) -> Mapping[str, PlanRunResource]:
    """Return the newest run of each plan by the plan's id, or its newest run whose audit has succeeded."""
    with service.sessions() as session:
        runs = plans.list_newest_runs(session, plan_ids, audited=audited)
        return {run.plan_id: describe_plan_run(run, state) for run, state in runs}


def get_plan(service: Service, plan_id: str) -> PlanHistory:
    """Return a plan with its newest runs. Raises: PlanNotFound."""
    with service.sessions() as session:
        plan, runs = plans.find_plan(session, plan_id), plans.list_runs(session, plan_id, limit=MOST_RUNS)
        return describe_plan_history(plan, runs)


def change_plan(service: Service, plan_id: str, change: PlanChange) -> PlanResource:
    """Change a plan. Raises: the errors of `plans.set_policy` and `plans.set_baseline`."""
    with service.sessions.begin() as session:
        if "policy" in change.model_fields_set:
            plans.set_policy(session, plan_id, None if change.policy is None else change.policy.model_dump(mode="json"))
        if change.baseline is not None:
            plans.set_baseline(session, plan_id, change.baseline)
        if change.paused is not None:
            (plans.pause if change.paused else plans.resume)(session, plan_id)
        return describe_plan(plans.find_plan(session, plan_id))


def delete_plan(service: Service, plan_id: str) -> None:
    """Delete a plan and its list of runs; its jobs stay. Raises: PlanNotFound."""
    with service.sessions.begin() as session:
        plans.remove_plan(session, plan_id)


def run_plan(service: Service, plan_id: str) -> JobResource:
    """Start a run of a plan with the newest version, and notify a worker. Raises: the errors of `plan_runs.run_now`."""
    with service.sessions.begin() as session:
        job = describe_job(plan_runs.run_now(session, service.settings, plan_id, _submitter(service)))
    service.queue.ring(job.id)
    return job


def _submitter(service: Service) -> plans.Submitter:
    """Return the API key of the request."""
    return plans.Submitter(service.key_name, service.max_priority)
