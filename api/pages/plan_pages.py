"""The pages of plans: the list, the form that creates a plan from an audit, and a plan with its runs and buttons."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Path, Query, Request, Response
from pydantic import Field

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.page_route import REFUSALS, describe_problem, page_router, redirect, show_refusal
from api.pages.plan_form import PlanForm, locate_errors
from api.pages.plan_views import PlanView, get_plan, list_plans
from api.pages.templating import templates
from api.pages.views import LISTED, list_fitting_datasets
from api.schemas.packs import MOST_POLICY_TEXT
from api.schemas.requests import MOST_HOURS, PlanChange, PlanRequest
from api.schemas.rows import describe_job
from api.serving import gates, plans
from api.serving.dependencies import After, Id, Service
from faal_client.resources.objects import JobResource
from jobs import model_registry, queries
from jobs.errors import JobStateConflict
from jobs.plans import MOST_PLANS
from jobs.states import JobKind, JobState

router = page_router()

Reference = Annotated[str, Query(max_length=100)]
ShownKey = Annotated[str, Query(max_length=100)]
ShownPlans = Annotated[list[Annotated[str, Field(max_length=100)]] | None, Query(max_length=MOST_PLANS)]
AuditId = Annotated[str, Path(alias="job", pattern=r"^[\x21-\x7e]+$", max_length=40)]


# The list


@router.get("/ui/plans")
def show_plans(request: Request, service: ReaderDep, after: After = None) -> Response:
    """Show the plans with their newest runs."""
    page = list_plans(service, after)
    filling = {"views": page.views, "following": page.following} | _polling(page.views, after)
    return templates.TemplateResponse(request, "plans.html", filling)


@router.get("/ui/plans/states")
def show_plan_states(request: Request, service: ReaderDep, after: After = None, plan: ShownPlans = None) -> Response:
    """Show the states and figures of the plans that the list polls, because a run of them had not ended."""
    views = [view for view in list_plans(service, after).views if view.plan.id in (plan or ())]
    return templates.TemplateResponse(request, "plan_states.html", {"views": views} | _polling(views, after))


def _polling(views: Sequence[PlanView], after: str | None) -> dict[str, Any]:
    """Return the address of the states of those plans that may change by themselves, and whether there are any."""
    active = [("plan", view.plan.id) for view in views if view.running]
    place = [] if after is None else [("after", after)]
    return {"poll_address": f"/ui/plans/states?{urlencode(place + active)}", "running": bool(active)}


# The form


@router.get("/ui/plans/new")
def show_plan_form(request: Request, service: ReaderDep, like: Reference) -> Response:
    """Show the form that creates a plan with the settings of an audit."""
    audit = _find_audit(service, like)
    with service.sessions() as session:
        names = model_registry.find_names(session, [audit.model or ""])
    form = PlanForm.for_audit(audit.id, names.get(audit.model or "", ""), audit.dataset or "")
    return templates.TemplateResponse(request, "plan_form.html", _form(service, audit, form))


@router.post("/ui/plans")
def create_plan_from_page(request: Request, service: SubmitterDep, form: Annotated[PlanForm, Form()]) -> Response:
    """Create a plan and go to its page, or show the form again with its errors."""
    audit = _find_audit(service, form.like)
    try:
        plan_request = form.request(audit.spec)
        _require_known_names(service, audit, plan_request)
        plan = plans.create_plan(service, plan_request)
    except REFUSALS as refusal:
        filling = _form(service, audit, form) | {"errors": locate_errors(describe_problem(request, refusal))}
        return show_refusal(request, "plan_form.html", filling, refusal)
    return redirect(f"/ui/plans/{plan.id}")


def _require_known_names(service: Service, audit: JobResource, request: PlanRequest) -> None:
    """Check the names in the policy of a plan that repeats an audit, if this one has a report. Raises: InvalidSpec.

    Audits of another data set or of another model can have other names.
    """
    from faal_core.results.gates.judging import judge_audit  # imported here, since SciPy takes a fraction of a second

    with service.sessions() as session:
        names = model_registry.find_names(session, [audit.model or ""])
    is_same = (request.dataset, request.model_name) == (audit.dataset, names.get(audit.model or ""))
    if request.policy is not None and is_same and audit.status is JobState.SUCCEEDED:
        report, _ = gates.find_audit(service, audit.id)
        judge_audit(request.policy.model_copy(update={"baseline": None}), report)


def _find_audit(service: Service, job_id: str) -> JobResource:
    """Return the audit of that id. Raises: JobNotFound, JobStateConflict for another kind of job."""
    with service.sessions() as session:
        job = describe_job(queries.find_job(session, job_id))
    if job.kind is not JobKind.AUDIT:
        raise JobStateConflict(f"Job {job.id} is {job.kind}, and plans repeat audits. Choose an audit.")
    return job


def _form(service: Service, audit: JobResource, form: PlanForm) -> dict[str, Any]:
    with service.sessions() as session:
        models = model_registry.list_ready(session, limit=LISTED)
    return {
        "audit": audit,
        "form": form,
        "model_names": list(dict.fromkeys(model.name for model in models)),
        "datasets": list_fitting_datasets(service, audit.model or "", training=False),
        "most_hours": MOST_HOURS,
        "most_policy": MOST_POLICY_TEXT,
        "problem": None,
        "errors": {},
    }


# A plan


@router.get("/ui/plans/{id}")
def show_plan(request: Request, plan_id: Id, service: ReaderDep) -> Response:
    """Show one plan with its runs."""
    return templates.TemplateResponse(request, "plan.html", _plan(service, plan_id))


@router.get("/ui/plans/{id}/course")
def show_plan_changes(
    request: Request,
    plan_id: Id,
    service: ReaderDep,
    running: ShownKey = "",
    paused: ShownKey = "",
    runs: ShownKey = "",
) -> Response:
    """Show the parts of a plan's page that changed. The others are left out, so that the keyboard focus stays."""
    filling = _plan(service, plan_id) | {"shown": {"running": running, "paused": paused, "runs": runs}}
    return templates.TemplateResponse(request, "plan_changes.html", filling)


def _plan(service: Service, plan_id: str) -> dict[str, Any]:
    view, history = get_plan(service, plan_id)
    return {"view": view, "history": history, "most_runs": plans.MOST_RUNS}


@router.post("/ui/plans/{id}/run")
def run_plan_from_page(plan_id: Id, service: SubmitterDep) -> Response:
    """Start a run and go to the plan's page."""
    plans.run_plan(service, plan_id)
    return redirect(f"/ui/plans/{plan_id}")


@router.post("/ui/plans/{id}/pause")
def pause_plan_from_page(plan_id: Id, service: SubmitterDep) -> Response:
    """Pause a plan and go to its page."""
    return _change(service, plan_id, PlanChange(paused=True))


@router.post("/ui/plans/{id}/resume")
def resume_plan_from_page(plan_id: Id, service: SubmitterDep) -> Response:
    """Resume a plan and go to its page."""
    return _change(service, plan_id, PlanChange(paused=False))


@router.post("/ui/plans/{id}/baselines/{job}")
def set_baseline_from_page(plan_id: Id, job_id: AuditId, service: SubmitterDep) -> Response:
    """Let later runs be compared with that audit, and go to the plan's page."""
    return _change(service, plan_id, PlanChange(baseline=job_id))


@router.post("/ui/plans/{id}/policy/remove")
def remove_policy_from_page(plan_id: Id, service: SubmitterDep) -> Response:
    """Judge later audits by no policy, and go to the plan's page."""
    return _change(service, plan_id, PlanChange(policy=None))


@router.post("/ui/plans/{id}/delete")
def delete_plan_from_page(plan_id: Id, service: SubmitterDep) -> Response:
    """Delete a plan and go to the list."""
    plans.delete_plan(service, plan_id)
    return redirect("/ui/plans")


def _change(service: Service, plan_id: str, change: PlanChange) -> Response:
    plans.change_plan(service, plan_id, change)
    return redirect(f"/ui/plans/{plan_id}")
