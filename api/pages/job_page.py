"""The page of a job, and its buttons."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.pages.page_route import page_router, redirect
from api.pages.templating import templates
from api.pages.views import course, job_views
from api.schemas.rows import describe_job
from api.serving import use_cases
from api.serving.dependencies import Id, Number, Service
from api.serving.negotiation import is_unchanged
from jobs import plans, queries, studies
from jobs.errors import PlanNotFound, StudyNotFound
from jobs.states import FINAL

router = page_router()

ShownKey = Annotated[str, Query(max_length=100)]


@router.get("/ui/jobs/{id}")
def show_job(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Show one job."""
    return templates.TemplateResponse(request, "job.html", _job(service, job_id))


@router.get("/ui/jobs/{id}/course")
def show_job_changes(
    request: Request, job_id: Id, service: ReaderDep, state: ShownKey = "", rows: ShownKey = ""
) -> Response:
    """Show the parts of a job's page that changed, or answer 304 where the page has this version already.

    The progress is always shown. The buttons and the tables are left out while the page has them, so that the keyboard focus and
    the scroll positions stay.
    """
    with service.sessions() as session:
        job = queries.find_job(session, job_id)
        # Candidates of an ended job can still become models.
        etag = None if job.state in FINAL else f'W/"{job.version}"'
    if etag is not None and is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = None if etag is None else {"ETag": etag}
    filling = _job(service, job_id) | {"shown": {"state": state, "rows": rows}}
    return templates.TemplateResponse(request, "job_changes.html", filling, headers=headers)


def _job(service: Service, job_id: str) -> dict[str, Any]:
    with service.sessions() as session:
        job = describe_job(queries.find_job(session, job_id))
        plan = study = None
        if plan_id := job.metadata.get("plan"):
            with suppress(PlanNotFound):  # it was deleted, or the submitter chose this metadata
                plan = plans.find_plan(session, plan_id)
        if study_id := job.metadata.get(studies.METADATA_KEY):
            with suppress(StudyNotFound):  # as above
                study = studies.find_study(session, study_id)
    view = job_views(service, [job])[0]
    return {"view": view, "course": course(service, job_id), "plan": plan, "study": study}


@router.post("/ui/jobs/{id}/cancel")
def cancel_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Cancel a job and go to its page."""
    return redirect(f"/ui/jobs/{use_cases.cancel_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/pause")
def pause_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Pause a job and go to its page."""
    return redirect(f"/ui/jobs/{use_cases.pause_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/resume")
def resume_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Resume a job and go to its page."""
    return redirect(f"/ui/jobs/{use_cases.resume_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/retry")
def retry_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Retry a job and go to the page of the new one."""
    return redirect(f"/ui/jobs/{use_cases.retry_job(service, job_id).id}")


@router.post("/ui/jobs/{id}/candidates/{number}")
def make_candidate_from_page(job_id: Id, number: Number, service: SubmitterDep) -> Response:
    """Make the model of a candidate and go to its page."""
    return redirect(f"/ui/models/{use_cases.make_candidate(service, job_id, number).id}")


@router.post("/ui/jobs/{id}/delete")
def delete_job_from_page(job_id: Id, service: SubmitterDep) -> Response:
    """Delete a job and go to the list of jobs."""
    use_cases.delete_job(service, job_id)
    return redirect("/")
