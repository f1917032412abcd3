"""The pages for browsers: the jobs and the form that starts one, the page of a job, models and data sets."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.login import to_login
from api.pages.start_form import StartForm
from api.pages.templating import templates
from api.pages.views import LISTED, choices, course, job_views, named_datasets
from api.problems import answers
from api.problems.errors import ApiError, KeyRequired
from api.problems.explanations import explain_code
from api.schemas.rows import describe_job
from api.serving import use_cases
from api.serving.dependencies import After, Id, Number, Service
from api.serving.negotiation import is_unchanged
from api.uploads.registration import register_dataset, register_model
from faal_core import catalog
from faal_core.errors import FaalError
from jobs import queries
from jobs.errors import JobsError, KeyRefused
from jobs.states import FINAL, UploadState

UPLOAD_PATHS = frozenset({"/ui/models", "/ui/datasets"})

SHOWN_LINEAGE = 20  # ancestors on the page of a model, itself included
REFUSALS = (ApiError, FaalError, JobsError)


ChosenModel = Annotated[str, Query(max_length=100)]


class _Page(APIRoute):
    """A route that shows errors on a page, and the login page to a visitor without a valid key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        answer = super().get_route_handler()

        async def answer_with_page(request: Request) -> Response:
            try:
                return await answer(request)
            except (KeyRequired, KeyRefused):
                return to_login(request)
            except (*REFUSALS, RequestValidationError, HTTPException) as raised:
                return _show_refusal(request, "problem.html", {}, raised)

        return answer_with_page


router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=_Page)


def _show_refusal(request: Request, page: str, filling: dict[str, Any], raised: Exception) -> Response:
    """Show a page with the problem, with the status and headers that the API would answer with."""
    problem = answers.describe_problem(request, raised)
    return templates.TemplateResponse(
        request, page, filling | {"problem": problem}, problem.status, answers.select_headers(raised)
    )


def _redirect(address: str) -> Response:
    return RedirectResponse(address, 303)


# Jobs


@router.get("/")
def show_jobs(request: Request, service: ReaderDep, after: After = None, model: ChosenModel = "") -> Response:
    """Show the jobs, and the form that starts one."""
    return templates.TemplateResponse(
        request, "jobs.html", _jobs(service, after) | _start(service, StartForm(model=model))
    )


@router.get("/ui/jobs")
def show_job_table(request: Request, service: ReaderDep, after: After = None) -> Response:
    """Show the table of jobs alone, which the page polls."""
    return templates.TemplateResponse(request, "job_table.html", _jobs(service, after))


def _jobs(service: Service, after: str | None) -> dict[str, Any]:
    page = use_cases.list_jobs(service, after=after)
    return {"views": job_views(service, page.data), "after": after, "older": page.last_id if page.has_more else None}


def _start(service: Service, form: StartForm) -> dict[str, Any]:
    return {"choices": choices(service), "form": form, "problem": None}


@router.post("/ui/jobs")
def start_job(request: Request, service: SubmitterDep, form: Annotated[StartForm, Form()]) -> Response:
    """Start a job and go to its page, or show the form again with its errors."""
    try:
        job = use_cases.submit_job(service, form.request())
    except REFUSALS as refusal:
        return _show_refusal(request, "jobs.html", _jobs(service, None) | _start(service, form), refusal)
    return _redirect(f"/ui/jobs/{job.id}")


@router.get("/ui/jobs/{id}")
def show_job(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Show one job."""
    return templates.TemplateResponse(request, "job.html", _job(service, job_id))


@router.get("/ui/jobs/{id}/course")
def show_job_course(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Show the part of a job's page that changes, or answer 304 where the page has this version already."""
    with service.sessions() as session:
        job = queries.find_job(session, job_id)
        # Candidates of an ended job can still become models.
        etag = None if job.state in FINAL else f'W/"{job.version}"'
    if etag is not None and is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = None if etag is None else {"ETag": etag}
    return templates.TemplateResponse(request, "job_course.html", _job(service, job_id), headers=headers)


def _job(service: Service, job_id: str) -> dict[str, Any]:
    with service.sessions() as session:
        job = describe_job(queries.find_job(session, job_id))
    return {"view": job_views(service, [job])[0], "course": course(service, job_id)}


@router.post("/ui/jobs/{id}/cancel")
def cancel_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Cancel a job and go to its page."""
    return _redirect(f"/ui/jobs/{use_cases.cancel_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/pause")
def pause_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Pause a job and go to its page."""
    return _redirect(f"/ui/jobs/{use_cases.pause_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/resume")
def resume_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Resume a job and go to its page."""
    return _redirect(f"/ui/jobs/{use_cases.resume_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/retry")
def retry_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Retry a job and go to the page of the new one."""
    return _redirect(f"/ui/jobs/{use_cases.retry_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/candidates/{number}")
def make_candidate_from_page(job_id: Id, number: Number, service: SubmitterDep) -> Response:
    """Make the model of a candidate and go to its page."""
    return _redirect(f"/ui/models/{use_cases.make_candidate(service, job_id, number).id}")


@router.post("/ui/jobs/{id}/delete")
def delete_job_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Delete a job and go to the list of jobs."""
    use_cases.delete_job(service, job_id)
    return _redirect("/")


# Models


@router.get("/ui/models")
def show_models(request: Request, service: ReaderDep, after: After = None) -> Response:
    """Show the models, and the form that uploads one."""
    return templates.TemplateResponse(request, "models.html", _models(service, after))


def _models(service: Service, after: str | None) -> dict[str, Any]:
    page = use_cases.list_models(service, after=after)
    names = {model.id: model.name for model in page.data}
    return {
        "models": page.data,
        "names": names,
        "older": page.last_id if page.has_more else None,
        "architectures": [entry for entry in catalog.architectures().values() if not entry.name.startswith("timm/")],
        "problem": None,
    }


@router.post("/ui/models")
def upload_model_from_page(request: Request, service: SubmitterDep) -> Response:
    """Register an uploaded model and go to its page, or show the form again with its errors."""
    try:
        model = register_model(request, service)
    except REFUSALS as refusal:
        return _show_refusal(request, "models.html", _models(service, None), refusal)
    return _redirect(f"/ui/models/{model.id}")


@router.get("/ui/models/{id}")
def show_model(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """Show one model: its network, its origin and its jobs."""
    return templates.TemplateResponse(request, "model.html", _model(service, model_id))


@router.get("/ui/models/{id}/state")
def show_model_state(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """Show the part of a model's page that changes."""
    return templates.TemplateResponse(request, "model_state.html", {"model": use_cases.get_model(service, model_id)})


def _model(service: Service, model_id: str) -> dict[str, Any]:
    page = use_cases.list_lineage(service, model_id, limit=SHOWN_LINEAGE)
    jobs = use_cases.list_jobs(service, model=model_id).data
    return {
        "model": page.data[0],
        "lineage": page.data,
        "earlier": page.has_more,
        "views": job_views(service, jobs),
    }


@router.post("/ui/models/{id}/delete")
def delete_model_from_page(model_id: Id, service: SubmitterDep) -> Response:
    """Delete a model's weights and go to its page."""
    return _redirect(f"/ui/models/{use_cases.delete_model(service, model_id).id}")


# Data sets


@router.get("/ui/datasets")
def show_datasets(request: Request, service: ReaderDep) -> Response:
    """Show the data sets, and the form that uploads one."""
    return templates.TemplateResponse(request, "datasets.html", _datasets(service))


@router.get("/ui/datasets/uploaded")
def show_uploaded_datasets(request: Request, service: ReaderDep) -> Response:
    """Show the uploaded data sets alone, which the page polls while one is being checked."""
    return templates.TemplateResponse(request, "dataset_table.html", _datasets(service))


def _datasets(service: Service) -> dict[str, Any]:
    page = use_cases.list_datasets(service, limit=LISTED)
    checking = any(dataset.status is UploadState.VALIDATING for dataset in page.data)
    return {
        "uploaded": page.data,
        "older": page.has_more,
        "checking": checking,
        "named": named_datasets(service),
        "problem": None,
    }


@router.post("/ui/datasets")
def upload_dataset_from_page(request: Request, service: SubmitterDep) -> Response:
    """Register an uploaded data set and go to the list, or show the form again with its errors."""
    try:
        register_dataset(request, service)
    except REFUSALS as refusal:
        return _show_refusal(request, "datasets.html", _datasets(service), refusal)
    return _redirect("/ui/datasets")


@router.post("/ui/datasets/{id}/delete")
def delete_dataset_from_page(dataset_id: Id, service: SubmitterDep) -> Response:
    """Delete a data set and go to the list."""
    use_cases.delete_dataset(service, dataset_id)
    return _redirect("/ui/datasets")


# Problems


@router.get("/problems/{code}")
def show_problem_type(request: Request, code: str) -> Response:
    """Show the cause and the remedy of a code, to which the `type` of a problem points."""
    explanations = explain_code(code)
    if not explanations:
        raise HTTPException(404)
    return templates.TemplateResponse(request, "problem_type.html", {"code": code, "explanations": explanations})


@router.get("/docs")
def show_description(request: Request) -> Response:
    """Show the API documentation, where requests can be tried."""
    return templates.TemplateResponse(request, "docs.html")
