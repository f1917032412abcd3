"""Links to the report of a job: make, list and revoke them. api/pages/sharing.py answers who follows a link."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from api.access.authentication import ReaderDep, SharerDep, SubmitterDep
from api.schemas.requests import LinkRequest
from api.serving import use_cases
from api.serving.dependencies import After, Id, Limit, LinkId
from faal_client.resources.links import LinkResource, NewLink
from faal_client.resources.objects import Page

router = APIRouter(tags=["jobs"])


@router.post("/jobs/{id}/links", status_code=201, summary="Share a report by a link that expires")
def create_link(
    job_id: Id,
    service: SharerDep,
    request: Request,
    response: Response,
    body: Annotated[LinkRequest, Body(default_factory=LinkRequest)],
) -> NewLink:
    """Make a link to the report of a job, and return it with its secret address. The service never shows the address again.

    Every reader with the address can read the report without an API key. The link ends when it expires, is revoked, or its job is
    deleted. The request needs an API key with the scopes `read` and `submit`. A report can have 20 valid links.
    """
    response.headers["Cache-Control"] = "no-store"
    return use_cases.share_report(service, job_id, body, str(request.base_url))


@router.get("/jobs/{id}/links", summary="List the valid links to a report, newest first")
def list_links(job_id: Id, service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[LinkResource]:
    """List the links to the report of a job that have not expired, without their addresses."""
    return use_cases.list_links(service, job_id, after=after, limit=limit)


@router.delete("/jobs/{id}/links/{link}", status_code=204, summary="Revoke a link to a report")
def revoke_link(job_id: Id, link_id: LinkId, service: SubmitterDep) -> None:
    """Revoke a link. From now on its address answers 404."""
    use_cases.revoke_link(service, job_id, link_id)
