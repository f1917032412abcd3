"""The pages a person sees: jobs and how to start one, a job as it runs, models, data sets."""

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
from api.routes.candidates import Number, candidate_model
from api.routes.datasets import delete_dataset, list_datasets, receive_dataset
from api.routes.jobs import cancel_job, delete_job, list_jobs, pause_job, resume_job, retry_job, submit
from api.routes.models import delete_model, get_model, list_model_lineage, list_models, receive_model
from api.schemas.resources import JobResource
from api.serving.dependencies import After, Id, Service
from api.serving.negotiation import unchanged
from faal_core import catalog
from faal_core.errors import FaalError
from jobs import queries
from jobs.errors import JobsError, KeyRefused
from jobs.states import FINAL, JobKind, UploadState

UPLOAD_PATHS = frozenset({"/ui/models", "/ui/datasets"})

SHOWN_LINEAGE = 20  # models on the page of the last one
REFUSALS = (ApiError, FaalError, JobsError)


ChosenModel = Annotated[str, Query(max_length=100)]


class _Page(APIRoute):
    """A route whose errors are told on a page; whoever is not known is asked to sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        answer = super().get_route_handler()

        async def answer_with_page(request: Request) -> Response:
            try:
                return await answer(request)
            except (KeyRequired, KeyRefused):
                return to_login(request)
            except (*REFUSALS, RequestValidationError, HTTPException) as raised:
                return _refused(request, "problem.html", {}, raised)

        return answer_with_page


router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=_Page)


def _refused(request: Request, page: str, filling: dict[str, Any], raised: Exception) -> Response:
    """The page with what was wrong, and the status that the API would answer with."""
    problem = answers.problem_of(request, raised)
    return templates.TemplateResponse(
        request, page, filling | {"problem": problem}, problem.status, answers.headers_of(raised)
    )


def _see(address: str) -> Response:
    return RedirectResponse(address, 303)


# Jobs


@router.get("/")
def show_jobs(request: Request, service: ReaderDep, after: After = None, model: ChosenModel = "") -> Response:
    """The jobs, and the form that starts one."""
    return templates.TemplateResponse(
        request, "jobs.html", _jobs(service, after) | _start(service, StartForm(model=model))
    )


@router.get("/ui/jobs")
def show_job_table(request: Request, service: ReaderDep, after: After = None) -> Response:
    """The table of jobs alone, which the page asks for again and again."""
    return templates.TemplateResponse(request, "job_table.html", _jobs(service, after))


def _jobs(service: Service, after: str | None) -> dict[str, Any]:
    page = list_jobs(service, after=after)
    return {"views": job_views(service, page.data), "after": after, "older": page.last_id if page.has_more else None}


def _start(service: Service, form: StartForm) -> dict[str, Any]:
    return {"choices": choices(service), "form": form, "problem": None}


@router.post("/ui/jobs")
def start_job(request: Request, service: SubmitterDep, form: Annotated[StartForm, Form()]) -> Response:
    """A job as the form says, or the form again with what is wrong with it."""
    try:
        asked = form.request()
        job = submit(service, asked, asked.spec, JobKind(form.kind), None)
    except REFUSALS as refusal:
        return _refused(request, "jobs.html", _jobs(service, None) | _start(service, form), refusal)
    return _see(f"/ui/jobs/{job.id}")


@router.get("/ui/jobs/{id}")
def show_job(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """One job."""
    return templates.TemplateResponse(request, "job.html", _job(service, job_id))


@router.get("/ui/jobs/{id}/course")
def show_job_course(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Return how a job goes: the part of its page that changes, or 304 where the page has it in this version already."""
    with service.sessions() as session:
        job = queries.job(session, job_id)
        etag = None if job.state in FINAL else f'W/"{job.version}"'  # a final job's candidates can still become models
    if etag is not None and unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = None if etag is None else {"ETag": etag}
    return templates.TemplateResponse(request, "job_course.html", _job(service, job_id), headers=headers)


def _job(service: Service, job_id: str) -> dict[str, Any]:
    with service.sessions() as session:
        job = JobResource.of(queries.job(session, job_id))
    return {"view": job_views(service, [job])[0], "course": course(service, job_id)}


@router.post("/ui/jobs/{id}/cancel")
def cancel_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """The job's page, after it was called off."""
    return _see(f"/ui/jobs/{cancel_job(job_id, service).id}")


@router.post("/ui/jobs/{id}/pause")
def pause_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """The job's page, after it was set aside."""
    return _see(f"/ui/jobs/{pause_job(job_id, service).id}")


@router.post("/ui/jobs/{id}/resume")
def resume_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """The job's page, after it was queued again."""
    return _see(f"/ui/jobs/{resume_job(job_id, service).id}")


@router.post("/ui/jobs/{id}/retry")
def retry_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """The page of the new job."""
    return _see(f"/ui/jobs/{retry_job(job_id, service, Response()).id}")


@router.post("/ui/jobs/{id}/candidates/{number}")
def make_candidate_from_page(job_id: Id, number: Number, service: SubmitterDep) -> Response:
    """The page of the candidate's model."""
    return _see(f"/ui/models/{candidate_model(service, job_id, number).id}")


@router.post("/ui/jobs/{id}/delete")
def delete_job_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """The jobs, without that one."""
    delete_job(job_id, service)
    return _see("/")


# Models


@router.get("/ui/models")
def show_models(request: Request, service: ReaderDep, after: After = None) -> Response:
    """The models, and the form that uploads one."""
    return templates.TemplateResponse(request, "models.html", _models(service, after))


def _models(service: Service, after: str | None) -> dict[str, Any]:
    page = list_models(service, after=after)
    names = {model.id: model.name for model in page.data}
    return {
        "models": page.data,
        "names": names,
        "older": page.last_id if page.has_more else None,
        "architectures": list(catalog.architectures().values()),
        "problem": None,
    }


@router.post("/ui/models")
def upload_model_from_page(request: Request, service: SubmitterDep) -> Response:
    """The uploaded model's page, or the form again with what is wrong with it."""
    try:
        model = receive_model(request, service, None)
    except REFUSALS as refusal:
        return _refused(request, "models.html", _models(service, None), refusal)
    return _see(f"/ui/models/{model.id}")


@router.get("/ui/models/{id}")
def show_model(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """One model: what it is, where it comes from, and its jobs."""
    return templates.TemplateResponse(request, "model.html", _model(service, model_id))


@router.get("/ui/models/{id}/state")
def show_model_state(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """Where a model stands: the part of its page that changes."""
    return templates.TemplateResponse(request, "model_state.html", {"model": get_model(model_id, service)})


def _model(service: Service, model_id: str) -> dict[str, Any]:
    page = list_model_lineage(model_id, service, limit=SHOWN_LINEAGE)
    jobs = list_jobs(service, model=model_id).data
    return {
        "model": page.data[0],
        "lineage": page.data,
        "earlier": page.has_more,
        "views": job_views(service, jobs),
    }


@router.post("/ui/models/{id}/delete")
def delete_model_from_page(model_id: Id, service: SubmitterDep) -> Response:
    """The model's page, after its weights were deleted."""
    return _see(f"/ui/models/{delete_model(model_id, service).id}")


# Data sets


@router.get("/ui/datasets")
def show_datasets(request: Request, service: ReaderDep) -> Response:
    """The data sets, and the form that uploads one."""
    return templates.TemplateResponse(request, "datasets.html", _datasets(service))


@router.get("/ui/datasets/uploaded")
def show_uploaded_datasets(request: Request, service: ReaderDep) -> Response:
    """The uploaded data sets alone, which the page asks for again while one is being checked."""
    return templates.TemplateResponse(request, "dataset_table.html", _datasets(service))


def _datasets(service: Service) -> dict[str, Any]:
    page = list_datasets(service, limit=LISTED)
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
    """The data sets with the new one, or the form again with what is wrong with it."""
    try:
        receive_dataset(request, service, None)
    except REFUSALS as refusal:
        return _refused(request, "datasets.html", _datasets(service), refusal)
    return _see("/ui/datasets")


@router.post("/ui/datasets/{id}/delete")
def delete_dataset_from_page(dataset_id: Id, service: SubmitterDep) -> Response:
    """The data sets, without that one."""
    delete_dataset(dataset_id, service)
    return _see("/ui/datasets")


# Problems


@router.get("/problems/{code}")
def show_problem_type(request: Request, code: str) -> Response:
    """What a problem's `type` points to."""
    if code not in answers.TITLES:
        raise HTTPException(404)
    status, title = answers.TITLES[code]
    return templates.TemplateResponse(request, "problem_type.html", {"code": code, "status": status, "title": title})


@router.get("/docs")
def show_description(request: Request) -> Response:
    """The API's description, to read and to try."""
    return templates.TemplateResponse(request, "docs.html")
