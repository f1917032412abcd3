"""The pages of models and of data sets, and the forms that upload them."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import Field

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.page_route import REFUSALS, page_router, redirect, show_refusal
from api.pages.templating import templates
from api.pages.views import LISTED, job_views, named_datasets
from api.serving import use_cases
from api.serving.dependencies import After, Id, Service
from api.uploads.bundled import register_bundled_model
from api.uploads.registration import register_dataset, register_model
from faal_client.resources.objects import DatasetResource
from faal_core import catalog
from jobs.states import UploadState

router = page_router()

UPLOAD_PATHS = frozenset({"/ui/models", "/ui/datasets"})
ShownDatasets = Annotated[list[Annotated[str, Field(max_length=100)]] | None, Query(max_length=LISTED)]
SHOWN_LINEAGE = 20  # ancestors on the page of a model, itself included

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
        return show_refusal(request, "models.html", _models(service, None), refusal)
    return redirect(f"/ui/models/{model.id}")


@router.post("/ui/models/bundled")
def add_bundled_model(service: SubmitterDep) -> Response:
    """Add the bundled model where the owner has none, and go to the form that starts a job with it, or first to its page."""
    model = register_bundled_model(service)
    is_ready = model.status is UploadState.READY
    return redirect(f"/?model={model.id}#start-heading" if is_ready else f"/ui/models/{model.id}")


@router.get("/ui/models/{id}")
def show_model(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """Show one model: its network, its origin and its jobs."""
    return templates.TemplateResponse(request, "model.html", _model(service, model_id))


@router.get("/ui/models/{id}/state")
def show_model_state(request: Request, model_id: Id, service: ReaderDep) -> Response:
    """Show the parts of a model's page that change: its state, and those of its jobs."""
    return templates.TemplateResponse(request, "model_state.html", _model(service, model_id) | {"refresh": True})


def _model(service: Service, model_id: str) -> dict[str, Any]:
    page = use_cases.list_lineage(service, model_id, limit=SHOWN_LINEAGE)
    jobs = use_cases.list_jobs(service, model_id=model_id).data
    return {
        "model": page.data[0],
        "lineage": page.data,
        "earlier": page.has_more,
        "views": job_views(service, jobs),
        "refresh": False,
    }


@router.post("/ui/models/{id}/delete")
def delete_model_from_page(model_id: Id, service: SubmitterDep) -> Response:
    """Delete a model's weights and go to its page."""
    return redirect(f"/ui/models/{use_cases.delete_model(service, model_id).id}")


# Data sets


@router.get("/ui/datasets")
def show_datasets(request: Request, service: ReaderDep) -> Response:
    """Show the data sets, and the form that uploads one."""
    return templates.TemplateResponse(request, "datasets.html", _datasets(service))


@router.get("/ui/datasets/uploaded")
def show_dataset_states(request: Request, service: ReaderDep, dataset: ShownDatasets = None) -> Response:
    """Show the states of the data sets that the page polls, because they were being checked."""
    listed = use_cases.list_datasets(service, limit=LISTED).data
    shown = [one for one in listed if one.id in (dataset or [])]
    return templates.TemplateResponse(request, "dataset_states.html", {"uploaded": shown} | _polling(shown))


def _polling(datasets: Sequence[DatasetResource]) -> dict[str, Any]:
    """Return the address of the states of those data sets that are being checked, and whether there are any."""
    checking = [("dataset", one.id) for one in datasets if one.status is UploadState.VALIDATING]
    return {"poll_address": f"/ui/datasets/uploaded?{urlencode(checking)}", "checking": bool(checking)}


def _datasets(service: Service) -> dict[str, Any]:
    page = use_cases.list_datasets(service, limit=LISTED)
    filling = {"uploaded": page.data, "older": page.has_more, "named": named_datasets(service), "problem": None}
    return filling | _polling(page.data)


@router.post("/ui/datasets")
def upload_dataset_from_page(request: Request, service: SubmitterDep) -> Response:
    """Register an uploaded data set and go to the list, or show the form again with its errors."""
    try:
        register_dataset(request, service)
    except REFUSALS as refusal:
        return show_refusal(request, "datasets.html", _datasets(service), refusal)
    return redirect("/ui/datasets")


@router.post("/ui/datasets/{id}/delete")
def delete_dataset_from_page(dataset_id: Id, service: SubmitterDep) -> Response:
    """Delete a data set and go to the list."""
    use_cases.delete_dataset(service, dataset_id)
    return redirect("/ui/datasets")
