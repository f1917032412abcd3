"""The list of jobs, and the form that starts one."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from pydantic import Field, JsonValue, ValidationError

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.list_query import ListQuery
from api.pages.page_route import REFUSALS, describe_problem, page_router, redirect, show_refusal
from api.pages.start_form import StartForm, locate_errors
from api.pages.templating import templates
from api.pages.views import LISTED, JobView, choices, job_views, list_fitting_datasets, offers_comparison
from api.problems import answers
from api.problems.errors import InvalidRequest
from api.schemas.requests import AuditRequest, CompareRequest, FinetuneRequest
from api.schemas.rows import describe_job
from api.serving import use_cases
from api.serving.dependencies import Service
from api.serving.estimating import estimate_cost
from faal_core import catalog
from jobs import model_registry, queries, submission
from jobs.comparisons import MOST_COMPARED
from jobs.errors import JobStateConflict
from jobs.states import JobKind

router = page_router()

Reference = Annotated[str, Query(max_length=100)]
STARTED = (JobKind.FINETUNE, JobKind.AUDIT)  # kinds of the jobs that the form starts
ChosenJobs = Annotated[Sequence[str], Form(max_length=LISTED)]
ShownJobs = Annotated[list[Annotated[str, Field(max_length=100)]] | None, Query(max_length=LISTED)]


@router.get("/")
def show_jobs(request: Request, service: ReaderDep, query: Annotated[ListQuery, Query()]) -> Response:
    """Show the jobs, and the form that starts one."""
    filling = _jobs(service, query) | _begin(service, query)
    return templates.TemplateResponse(request, "jobs.html", filling)


@router.get("/ui/jobs")
def show_job_states(
    request: Request, service: ReaderDep, job: ShownJobs = None, has_choices: Annotated[bool, Query()] = False
) -> Response:
    """Show the states of the jobs that the list polls, because they had not ended, and whether they can be compared."""
    if job is None:  # a person loads the address that a refused form was sent to
        return redirect("/")
    page = use_cases.list_jobs(service, ids=job, limit=LISTED)
    views = job_views(service, page.data)
    filling = {"views": views} | _polling(views, has_choices=has_choices)
    return templates.TemplateResponse(request, "job_states.html", filling)


def _jobs(service: Service, query: ListQuery) -> dict[str, Any]:
    page = use_cases.list_jobs(service, after=query.after, order=query.order, **query.filters)
    views = job_views(service, page.data)
    filling = {
        "views": views,
        "query": query,
        "orders": query.orders(key for job in page.data for key in job.metadata),
        "following": page.last_id if page.has_more else None,
        "chosen_jobs": (),
        "comparison_problem": None,
    }
    return filling | _polling(views, has_choices=offers_comparison(views))


def _polling(views: Sequence[JobView], *, has_choices: bool) -> dict[str, Any]:
    """Return the address of the states of those jobs that may change by themselves, and whether there are any.

    Args:
        has_choices: whether jobs can be chosen for a comparison.
    """
    active = [("job", view.job.id) for view in views if view.active]
    address = urlencode([*active, *([("has_choices", "true")] if has_choices else [])])
    return {"poll_address": f"/ui/jobs?{address}", "running": bool(active), "has_choices": has_choices}


def _begin(service: Service, query: ListQuery) -> dict[str, Any]:
    """Return the start form, with the settings of the job or for the model in the address, if any."""
    if query.like:
        with service.sessions() as session:
            job = describe_job(queries.find_job(session, query.like))
        if job.kind not in STARTED:
            raise JobStateConflict(
                f"Job {job.id} is {job.kind}, and the form starts audits and fine-tunings. Choose one of those."
            )
        form = StartForm.from_job(job)
        return _start(service, form) | {"lacks_settings": not form.has_settings_of(job)}
    with service.sessions() as session:
        names = model_registry.find_names(session, [query.model]) if query.model else {}
    return _start(service, StartForm.for_model(query.model, names.get(query.model, "")))


def _start(service: Service, form: StartForm) -> dict[str, Any]:
    return {"choices": choices(service, form), "form": form, "problem": None, "errors": {}, "lacks_settings": False}


@router.post("/ui/jobs")
def start_job(request: Request, service: SubmitterDep, form: Annotated[StartForm, Form()]) -> Response:
    """Start a job and go to its page, or show the form again with its errors."""
    try:
        job = use_cases.submit_job(service, _read(service, form))
    except REFUSALS as refusal:
        filling = _jobs(service, ListQuery()) | _start(service, form)
        architectures = {model.id: model.architecture for model in filling["choices"].models}
        problem = describe_problem(request, refusal)
        filling["errors"] = locate_errors(problem, architectures.get(form.model))
        return show_refusal(request, "jobs.html", filling, refusal)
    return redirect(f"/ui/jobs/{job.id}")


def _read(service: Service, form: StartForm) -> FinetuneRequest | AuditRequest:
    """Return the form as a request to the API.

    Raises: InvalidRequest, also for a number of images that the data set does not allow; the errors of `require_dataset_ready`.
    """
    request = form.request()
    images = request.images if isinstance(request, AuditRequest) else request.audit.images
    if images is not None:
        with service.sessions.begin() as session:  # it locks the data set
            summary = submission.require_dataset_ready(session, form.dataset)
        if summary is None:
            entry = catalog.dataset(form.dataset)
            fewest, most = entry.num_classes, entry.images[1]
        else:
            fewest, most = len(summary["class_names"]), summary["images"].get("test", 0)
        if images < fewest or images > most > 0:  # numbers that are not known are 0
            raise InvalidRequest.for_field(
                "/images",
                f"{images} is out of bounds; the data set has {most:,} test images, and each of its {fewest:,} classes needs one",
            )
    return request


@router.post("/ui/comparisons")
def start_comparison(
    request: Request, service: SubmitterDep, query: Annotated[ListQuery, Query()], job: ChosenJobs = ()
) -> Response:
    """Start a comparison of the chosen jobs and go to its page, or show the list again with the choice and the error."""
    try:
        comparison = use_cases.submit_comparison(service, _compare(job))
    except REFUSALS as refusal:
        problem = describe_problem(request, refusal)
        filling = _jobs(service, query) | _begin(service, query)
        if not filling["has_choices"]:
            raise
        filling |= {"chosen_jobs": job, "comparison_problem": problem}
        return templates.TemplateResponse(
            request, "jobs.html", filling, problem.status, answers.select_headers(refusal)
        )
    return redirect(f"/ui/jobs/{comparison.id}")


def _compare(job: Sequence[str]) -> CompareRequest:
    """Return the request to compare the chosen jobs, the oldest first. Raises: InvalidRequest."""
    if not 2 <= len(job) <= MOST_COMPARED:
        raise InvalidRequest(f"Choose 2 to {MOST_COMPARED} audits.")
    fields: dict[str, JsonValue] = {"jobs": [*sorted(job)]}
    try:
        return CompareRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest.from_pydantic(error, fields) from None


@router.get("/ui/start/datasets")
def show_fitting_datasets(
    request: Request,
    service: ReaderDep,
    kind: JobKind = JobKind.FINETUNE,
    model: Reference = "",
    dataset: Reference = "",
) -> Response:
    """Show the data sets that fit a model, as options of the form, which asks for them when its model changes."""
    datasets = list_fitting_datasets(service, model, training=kind is JobKind.FINETUNE)
    return templates.TemplateResponse(request, "dataset_options.html", {"datasets": datasets, "chosen": dataset})


@router.post("/ui/start/estimate")
def show_estimate(request: Request, service: SubmitterDep, form: Annotated[StartForm, Form()]) -> Response:
    """Show the estimated cost of the job that the form would start, or the reason why there is none."""
    filling: dict[str, Any] = {"estimate": None, "objection": None, "chosen": bool(form.model)}
    try:
        filling["estimate"] = estimate_cost(service, _read(service, form)) if form.model else None
    except REFUSALS as refusal:
        filling["objection"] = describe_problem(request, refusal)
    return templates.TemplateResponse(request, "estimate.html", filling)
