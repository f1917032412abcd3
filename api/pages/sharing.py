"""Share a report: the page on which a link is made, and the answer to a reader who follows a link."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response

from api.access.authentication import ReaderDep, SharerDep, SubmitterDep, require_own_host
from api.pages.page_route import page_router, redirect, show_refusal
from api.pages.templating import templates
from api.problems.errors import RateExceeded
from api.problems.hidden_secrets import SHARED
from api.schemas.requests import LinkRequest
from api.serving import use_cases
from api.serving.dependencies import Id, LinkId, Service, ServiceDep
from api.serving.negotiation import choose_media_type
from api.serving.report_formats import MEDIA_TYPES, answer_with_report
from faal_client.resources.links import NewLink
from faal_core.results.reading import JobReport
from jobs import links, queries
from jobs.errors import JobCancelled, JobFailed, LinkNotFound
from jobs.keys import site_secret

router = page_router()
readers = APIRouter(tags=["shared reports"], dependencies=[Depends(require_own_host)])


@readers.get(
    SHARED + "{token}",
    summary="Read a shared report",
    response_model=JobReport,
    responses={200: {"description": "The report", "content": {"text/html": {"schema": {"type": "string"}}}}},
)
def read_shared_report(
    token: Annotated[str, Path(description="the secret part of the link's address")],
    service: ServiceDep,
    request: Request,
) -> Response:
    """Return the report that a link leads to, as JSON or HTML by the header Accept. The request needs no API key.

    Unknown, expired and revoked links answer 404 alike. A link allows as many requests per minute as an owner may send.
    """
    media_type = choose_media_type(request.headers.get("Accept", "*/*"), list(MEDIA_TYPES.values()))
    try:
        with service.sessions() as session:
            link, report = links.find_shared_report(session, site_secret(service.settings), token)
        request.state.link_id = link.id
        service.rates.count(f"link:{link.id}")  # owners' names have no colon
    except (LinkNotFound, RateExceeded) as refusal:
        if media_type == MEDIA_TYPES["html"]:
            return show_refusal(request, "shared_problem.html", {}, refusal)
        raise
    return answer_with_report(report.document, media_type, {"Vary": "Accept"})


@router.get("/ui/jobs/{id}/share")
def show_links(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Show the links to the report of a job, and the form that makes one."""
    return templates.TemplateResponse(request, "share.html", _links(service, job_id))


@router.post("/ui/jobs/{id}/links")
def create_link_from_page(
    request: Request, job_id: Id, service: SharerDep, form: Annotated[LinkRequest, Form()]
) -> Response:
    """Make a link, and show its address on the page, only this once."""
    new_link = use_cases.share_report(service, job_id, form, str(request.base_url))
    filling = _links(service, job_id, new_link)
    return templates.TemplateResponse(request, "share.html", filling, headers={"Cache-Control": "no-store"})


@router.post("/ui/jobs/{id}/links/{link}/revoke")
def revoke_link_from_page(job_id: Id, link_id: LinkId, service: SubmitterDep) -> Response:
    """Revoke a link and go to the page of the links."""
    use_cases.revoke_link(service, job_id, link_id)
    return redirect(f"/ui/jobs/{job_id}/share")


def _links(service: Service, job_id: str, new_link: NewLink | None = None) -> dict[str, Any]:
    report = None
    with service.sessions() as session:
        job = queries.find_job(session, job_id)
        with suppress(JobFailed, JobCancelled):
            report = queries.find_report(session, job_id)
    return {
        "job_id": job.id,
        "kind": job.kind,
        "has_report": report is not None,
        "links": use_cases.list_links(service, job_id, limit=links.MOST_LINKS).data,
        "new_link": new_link,
        "is_local": service.key_id is None and not service.settings.open,
    }
