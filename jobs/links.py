"""Links to reports, for readers without a key. A link's token is shown once; the table stores a keyed hash of it."""

import secrets

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jobs import queries
from jobs.clock import now
from jobs.errors import LinkNotFound, QuotaExceeded
from jobs.keys import hash_token
from jobs.moves import lock_job
from jobs.paging import Page, read_page
from jobs.tables import Report, ReportLink

MOST_LINKS = 20  # to one report, at a time
_PREFIX = "faal_link_"  # by which logs and scanners recognise a token
_TOKEN_BYTES = 32
_VALID = ReportLink.expires_at > now()


def add_link(
    session: Session, secret: bytes, job_id: str, *, seconds: float, created_by: str | None = None
) -> tuple[ReportLink, str]:
    """Add a link to the report of a job. Return its row and its token, which cannot be read again later.

    Args:
        secret: of the site, under which the token is hashed.
        seconds: time until the link expires.
        created_by: name of the API key, for people.

    Raises: JobNotFound, QuotaExceeded, and the errors of `queries.require_report`.
    """
    lock_job(session, job_id)  # nobody deletes it, or adds another link, until the transaction ends
    queries.require_report(session, job_id)
    session.execute(delete(ReportLink).where(ReportLink.job_id == job_id, ~_VALID))
    used = session.scalars(select(func.count(ReportLink.id)).where(ReportLink.job_id == job_id)).one()
    if used >= MOST_LINKS:
        raise QuotaExceeded("links", MOST_LINKS, used)
    token = _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    link = ReportLink(job_id=job_id, digest=hash_token(secret, token), created_by=created_by, expires_at=now(seconds))
    session.add(link)
    session.flush()
    return link, token


def list_links(session: Session, job_id: str, *, after: str | None = None, limit: int = 20) -> Page[ReportLink]:
    """Return a page of the valid links to a report, newest first, after the one of that id. Raises: JobNotFound."""
    queries.find_job(session, job_id)
    query = select(ReportLink).where(ReportLink.job_id == job_id, _VALID)
    return read_page(session, query, ReportLink.id, after=after, limit=limit)


def remove_link(session: Session, job_id: str, link_id: str) -> None:
    """Remove a link to the report of a job. Raises: JobNotFound, LinkNotFound."""
    queries.find_job(session, job_id)
    this_link = (ReportLink.id == link_id, ReportLink.job_id == job_id)
    if session.execute(delete(ReportLink).where(*this_link).returning(ReportLink.id)).one_or_none() is None:
        raise LinkNotFound(
            f"There is no link {link_id!r} to the report of {job_id}; `GET /jobs/{job_id}/links` lists them."
        )


def find_shared_report(session: Session, secret: bytes, token: str) -> tuple[ReportLink, Report]:
    """Return the valid link of that token, and the report it leads to. Raises: LinkNotFound, for any reason alike."""
    query = select(ReportLink, Report).join(Report, Report.job_id == ReportLink.job_id)
    row = session.execute(query.where(ReportLink.digest == hash_token(secret, token), _VALID)).one_or_none()
    if row is None:
        raise LinkNotFound("The link is wrong or has expired, or its sender revoked it. Ask the sender for a new one.")
    return row.ReportLink, row.Report
