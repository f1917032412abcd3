"""The page of a study: its jobs with their states, the table of its methods, and the buttons."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import TypeAdapter

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.page_route import page_router, redirect
from api.pages.templating import templates
from api.serving import studies
from api.serving.dependencies import Id, Service
from faal_core.errors import InvalidSpec
from faal_core.reports import text
from faal_core.reports.method_table_text import tabulate_methods
from faal_core.results.method_table import name_methods
from faal_core.specs import MethodSpec
from jobs import dataset_registry, model_registry

router = page_router()

ShownKey = Annotated[str, Query(max_length=100)]
_METHODS: TypeAdapter[list[MethodSpec]] = TypeAdapter(list[MethodSpec])


@router.get("/ui/studies/{id}")
def show_study(request: Request, study_id: Id, service: ReaderDep) -> Response:
    """Show one study with its jobs and its table."""
    return templates.TemplateResponse(request, "study.html", _study(service, study_id))


@router.get("/ui/studies/{id}/course")
def show_study_changes(request: Request, study_id: Id, service: ReaderDep, version: ShownKey = "") -> Response:
    """Show the jobs of a study, and its table and buttons unless the page has this version of them."""
    return templates.TemplateResponse(request, "study_changes.html", _study(service, study_id, version))


def _study(service: Service, study_id: str, shown_version: str = "") -> dict[str, Any]:
    """Return the content of the page; without the table if the page shows this version.

    The sentences state why there is no table where the fine-tunings cannot be in one.
    """
    study = studies.get_study(service, study_id)
    version = studies.table_version(study)
    names = name_methods(_METHODS.validate_python(study.methods))
    filling: dict[str, Any] = {"study": study, "names": names, "version": version, "changed": version != shown_version}
    if filling["changed"]:
        filling |= {"sentences": [], "cells": []}
        if studies.has_table(study):
            try:
                table = studies.build_table(service, study_id)
                filling |= {"sentences": text.verdict(table), "cells": tabulate_methods(table)}
            except InvalidSpec as refusal:
                filling["sentences"] = [refusal.message]
    with service.sessions() as session:
        models = model_registry.find_names(session, [study.model])
        datasets = dataset_registry.find_names(session, [study.dataset])
    return filling | {"model": models.get(study.model), "dataset": datasets.get(study.dataset, study.dataset)}


@router.post("/ui/studies/{id}/cancel")
def cancel_study_from_page(study_id: Id, service: SubmitterDep) -> Response:
    """Cancel the jobs of a study and go to its page."""
    return redirect(f"/ui/studies/{studies.cancel_study(service, study_id).id}")


@router.post("/ui/studies/{id}/delete")
def delete_study_from_page(study_id: Id, service: SubmitterDep) -> Response:
    """Delete a study and go to the list of jobs."""
    studies.delete_study(service, study_id)
    return redirect("/")
