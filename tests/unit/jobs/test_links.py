"""Links to reports: what they lead to, when they end, and what the database holds of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text

from jobs import lifecycle, links, removal
from jobs.database import Sessions
from jobs.errors import JobNotFound, JobStateConflict, LinkNotFound, QuotaExceeded
from jobs.tables import Job, ReportLink
from tests.job_steps import claim_job, queue_audit

SECRET = b"the site's own secret, of some length"
DOCUMENT = '{"kind": "audit"}'


@pytest.fixture
def audit_id(sessions: Sessions, job_id: str) -> str:
    """Return the id of an audit that has succeeded."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report=DOCUMENT)
    return job_id


def share(sessions: Sessions, job_id: str, *, seconds: float = 60, secret: bytes = SECRET) -> tuple[str, str]:
    """Add a link, and return its id and its token."""
    with sessions.begin() as session:
        link, token = links.add_link(session, secret, job_id, seconds=seconds, created_by="ann's laptop")
        return link.id, token


def read(sessions: Sessions, token: str, secret: bytes = SECRET) -> str:
    """Return the report that the token leads to."""
    with sessions() as session:
        return links.find_shared_report(session, secret, token)[1].document


def test_a_link_leads_to_its_report_until_it_is_revoked(sessions, audit_id):
    """A token leads to the report of its job, and to nothing once the link is revoked; a second link still works."""
    (first, first_token), (second, second_token) = (share(sessions, audit_id) for _ in range(2))
    assert read(sessions, first_token) == read(sessions, second_token) == DOCUMENT
    with sessions.begin() as session:
        assert [link.id for link in links.list_links(session, audit_id).data] == [second, first]
        links.remove_link(session, audit_id, first)
    with pytest.raises(LinkNotFound):
        read(sessions, first_token)
    assert read(sessions, second_token) == DOCUMENT
    with sessions.begin() as session:
        assert [link.id for link in links.list_links(session, audit_id).data] == [second]
        with pytest.raises(LinkNotFound):
            links.remove_link(session, audit_id, first)


def test_a_link_expires(sessions, audit_id):
    """An expired link leads to nothing and is listed no more; the next link removes its row."""
    link_id, token = share(sessions, audit_id, seconds=-1)
    with pytest.raises(LinkNotFound):
        read(sessions, token)
    with sessions() as session:
        assert links.list_links(session, audit_id).data == []
        assert session.scalars(select(ReportLink.id)).all() == [link_id]
    new, _ = share(sessions, audit_id)
    with sessions() as session:
        assert session.scalars(select(ReportLink.id)).all() == [new]


def test_all_refusals_are_alike(sessions, audit_id):
    """The error for an unknown, an expired and a revoked token, and one of another secret, is the same."""
    _, expired = share(sessions, audit_id, seconds=-1)
    revoked_id, revoked = share(sessions, audit_id)
    with sessions.begin() as session:
        links.remove_link(session, audit_id, revoked_id)
    _, valid = share(sessions, audit_id)
    messages = set()
    for token in ("", "\x00", "ключ", "faal_link_unknown", valid + "A", valid[:-1], valid.lower(), expired, revoked):
        with pytest.raises(LinkNotFound) as refusal:
            read(sessions, token)
        messages.add(refusal.value.message)
    with pytest.raises(LinkNotFound) as refusal:
        read(sessions, valid, b"another site's secret, of some length")
    assert messages == {refusal.value.message}


def test_a_link_ends_with_its_job(sessions, audit_id):
    """A deletion of the job, by its owner or by age, removes its links."""
    _, token = share(sessions, audit_id)
    with sessions.begin() as session:
        removal.remove_job(session, audit_id)
    with pytest.raises(LinkNotFound):
        read(sessions, token)
    with sessions() as session:
        assert session.scalars(select(ReportLink)).all() == []


def test_old_jobs_go_with_their_links(sessions, audit_id):
    """The removal of old jobs removes their links too."""
    share(sessions, audit_id)
    assert removal.remove_old_jobs(sessions, days=0) >= 1
    with sessions() as session:
        assert session.scalars(select(ReportLink)).all() == []


def test_only_reports_are_shared(sessions, model_id, job_id):
    """A job without a report, a check of an upload and an unknown job get no link."""
    with sessions() as session:
        check = session.scalars(select(Job.id).where(Job.kind == "check-model")).one()
    for job, error in ((job_id, JobStateConflict), (check, JobStateConflict), ("job_0", JobNotFound)):
        with pytest.raises(error):
            share(sessions, job)


def test_another_owner_sees_and_changes_no_link(sessions, audit_id, model_id):
    """Another owner can neither make, list nor remove links to the report; a link is found under its own job alone."""
    link_id, token = share(sessions, audit_id)
    with sessions.for_owner("ben").begin() as session:
        for act in (
            lambda: links.add_link(session, SECRET, audit_id, seconds=60),
            lambda: links.list_links(session, audit_id),
            lambda: links.remove_link(session, audit_id, link_id),
        ):
            with pytest.raises(JobNotFound):
                act()
    other = queue_audit(sessions, model_id, owner="ben", seed=1)
    with sessions.for_owner("ben").begin() as session, pytest.raises(LinkNotFound):
        links.remove_link(session, other, link_id)
    assert read(sessions, token) == DOCUMENT


def test_the_database_does_not_tell_a_token(sessions, audit_id):
    """No column of the table holds the token or a part of it."""
    _, token = share(sessions, audit_id)
    with sessions() as session:
        row = session.execute(text("SELECT * FROM report_links")).one()
    part = token.removeprefix("faal_link_")[:10]
    assert len(token) >= 50
    assert not any(part in str(value) for value in row)


def test_links_to_a_report_are_limited(sessions, audit_id):
    """Simultaneous requests together get as many links as a report may have; expired ones do not count."""
    share(sessions, audit_id, seconds=-1)

    def attempt(_: int) -> bool:
        try:
            share(sessions, audit_id)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(attempt, range(links.MOST_LINKS + 4)))
    assert answers.count(True) == links.MOST_LINKS
    with pytest.raises(QuotaExceeded, match=r"20 links to this report; the limit is 20\. Revoke one\."):
        share(sessions, audit_id)
