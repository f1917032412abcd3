"""Reports that are shared by a link: who may make one, what it shows, when it ends, and where its token is written."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from faal_client import Client, NotFound
from faal_client.vocabulary import Scope
from tests.service.api.conftest import AUDIT, Web
from tests.service.api.test_reports import BROWSER
from tests.service.processes import wait_until

DAY = 86_400
MINE = "of-ann"


@pytest.fixture
def audit_id(web: Web) -> str:
    """Return the id of an audit that has succeeded."""
    job = web.audit()
    web.run(job)
    web.succeed(job)
    return job


@pytest.fixture
def guarded_site(open_site) -> Iterator[Web]:
    """Yield a service that allows few requests, and logs them as JSON."""
    site = open_site(log_format="json", requests_per_minute=30)
    process, client = site.api()
    with closing(client):
        yield Web(site, process, client)


def share(client: httpx.Client, job: str, headers: dict[str, str] | None = None, **body: object) -> dict[str, str]:
    """Make a link, and return the body of the answer."""
    answer = client.post(f"/jobs/{job}/links", headers=headers or {}, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def test_a_link_shows_the_report(web, audit_id) -> None:
    """Without a key the address answers the report by Accept, as the job's owner gets it, and forbids copies and references."""
    url = share(web.client, audit_id)["url"]
    assert url.startswith(f"{web.client.base_url}/shared/")
    own = {kind: web.client.get(f"/jobs/{audit_id}/report", params={"format": kind}) for kind in ("json", "html")}
    for accept, kind in (("*/*", "json"), ("application/json", "json"), (BROWSER, "html")):
        answer = httpx.get(url, headers={"Accept": accept})
        assert (answer.status_code, answer.text) == (200, own[kind].text)
        for name in ("Content-Type", "Content-Security-Policy", "Vary", "X-Content-Type-Options"):
            assert answer.headers[name] == own[kind].headers[name]
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "noindex" in answer.headers["X-Robots-Tag"]
        assert "ETag" not in answer.headers
        assert "Set-Cookie" not in answer.headers


def test_links_are_listed_and_revoked(web, audit_id, problem) -> None:
    """The list shows valid links without their addresses; a revoked link answers 404 like a made-up one, also on a page."""
    first, second = share(web.client, audit_id), share(web.client, audit_id, expires_in=60)
    listed = web.client.get(f"/jobs/{audit_id}/links")
    assert listed.json()["data"] == [second["about"], first["about"]]
    assert not any(one["url"].rpartition("/")[2] in listed.text for one in (first, second))
    assert web.client.delete(f"/jobs/{audit_id}/links/{first['about']['id']}").status_code == 204
    assert problem(web.client.delete(f"/jobs/{audit_id}/links/{first['about']['id']}"))["code"] == "link-not-found"
    assert [one["id"] for one in web.client.get(f"/jobs/{audit_id}/links").json()["data"]] == [second["about"]["id"]]
    bodies = set()
    for url in (first["url"], f"{web.client.base_url}/shared/made-up", f"{web.client.base_url}/shared/{'ж' * 2000}"):
        answer = httpx.get(url)
        refusal = answer.json()
        assert (answer.status_code, refusal["instance"]) == (404, "/shared/…")
        assert refusal.pop("request_id")
        bodies.add(json.dumps(refusal))
        page = httpx.get(url, headers={"Accept": BROWSER})
        assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        assert "Ask the sender" in page.text
        for one in (answer, page):
            assert one.headers["Cache-Control"] == "private, no-store"
            assert one.headers["Referrer-Policy"] == "no-referrer"
    assert len(bodies) == 1
    assert httpx.get(second["url"]).status_code == 200


def test_a_link_ends_with_its_job(web, audit_id, problem) -> None:
    """A deletion of the job ends its links."""
    url = share(web.client, audit_id)["url"]
    assert web.client.delete(f"/jobs/{audit_id}").status_code == 204
    assert httpx.get(url).status_code == 404
    assert problem(web.client.get(f"/jobs/{audit_id}/links"))["code"] == "job-not-found"


def test_the_time_of_a_link_is_bounded(web, audit_id, problem) -> None:
    """Without a body a link lasts 7 days; less than a minute, more than 90 days and other fields are refused."""
    about = web.client.post(f"/jobs/{audit_id}/links").json()["about"]
    created, expires = (datetime.fromisoformat(about[name]) for name in ("created_at", "expires_at"))
    assert abs((expires - created).total_seconds() - 7 * DAY) < 5
    assert (about["job"], about["created_by"]) == (audit_id, None)
    for wrong in ({"expires_in": 59}, {"expires_in": 90 * DAY + 1}, {"expires_in": "soon"}, {"days": 3}):
        assert problem(web.client.post(f"/jobs/{audit_id}/links", json=wrong))["code"] == "invalid-request"
    share(web.client, audit_id, expires_in=90 * DAY)


def test_only_reports_are_shared(web, problem) -> None:
    """A job that has no report has no link: it waits, was cancelled, or does not exist."""
    job = web.audit()
    assert problem(web.client.post(f"/jobs/{job}/links"))["code"] == "job-state-conflict"
    web.client.post(f"/jobs/{job}/cancel")
    assert problem(web.client.post(f"/jobs/{job}/links"))["code"] == "job-cancelled"
    assert problem(web.client.post("/jobs/job_0/links"))["code"] == "job-not-found"


def test_a_page_of_another_site_makes_no_link(web, audit_id) -> None:
    """A form of another site cannot make or revoke a link in a browser that is signed in."""
    foreign = {"Sec-Fetch-Site": "cross-site"}
    for address in (f"/jobs/{audit_id}/links", f"/ui/jobs/{audit_id}/links"):
        assert web.client.post(address, headers=foreign).json()["code"] == "cross-site-request"
    assert web.client.get(f"/jobs/{audit_id}/links").json()["data"] == []


def test_a_link_is_made_and_revoked_on_the_page(web, audit_id) -> None:
    """The page of a job leads to a form that makes a link, shows its address once, and lists it with a button to revoke it."""
    assert f'href="/ui/jobs/{audit_id}/share"' in web.client.get(f"/ui/jobs/{audit_id}").text
    assert "on this machine only" in web.client.get(f"/ui/jobs/{audit_id}/share").text
    made = web.client.post(f"/ui/jobs/{audit_id}/links", data={"expires_in": DAY})
    [url] = re.findall(r'value="(http[^"]*/shared/[^"]+)"', made.text)
    assert made.headers["Cache-Control"] == "no-store"
    assert httpx.get(url).status_code == 200
    page = web.client.get(f"/ui/jobs/{audit_id}/share").text
    assert url not in page
    [action] = re.findall(r'action="(/ui/jobs/[^"]*/revoke)"', page)
    assert web.client.post(action).headers["Location"] == f"/ui/jobs/{audit_id}/share"
    assert httpx.get(url).status_code == 404
    assert web.client.post(f"/ui/jobs/{audit_id}/links", data={"expires_in": 1}).status_code == 422
    waiting = web.client.get(f"/ui/jobs/{web.audit()}/share").text
    assert "no report yet" in waiting
    assert "/links" not in waiting


def test_clients_share_reports(web, audit_id) -> None:
    """The Python client makes, lists and revokes links."""
    with Client(str(web.client.base_url)) as client:
        link = client.share_report(audit_id, expires_in=DAY)
        assert httpx.get(link.url).status_code == 200
        assert list(client.list_links(audit_id)) == [link.resource]
        client.revoke_link(audit_id, link.resource.id)
        with pytest.raises(NotFound):
            client.revoke_link(audit_id, link.resource.id)
        assert list(client.list_links(audit_id)) == []


def test_links_of_a_team(guarded_site, problem) -> None:
    """Keys of one owner share jobs and links, which name the keys; links are not for others, and need `read` and `submit`.

    A link needs no key, has a rate of its own, and its token is in no line of the log.
    """
    web, client = guarded_site, guarded_site.client
    ann, ben, outsider = (
        web.key(owner, Scope.READ, Scope.SUBMIT, name=name)
        for owner, name in (("vision", "Ann"), ("vision", "Ben's laptop"), ("audio", "Cem"))
    )
    sends, reads = web.key("vision", Scope.SUBMIT), web.key("vision", Scope.READ)
    body = AUDIT | {"model": web.model(MINE, owner="vision")}
    job = client.post("/jobs/audit", headers=ann, json=body).json()["id"]
    assert client.get(f"/jobs/{job}", headers=ben).json()["submitted_by"] == "Ann"
    assert "by Ann" in client.get(f"/ui/jobs/{job}", headers=ben).text
    web.run(job)
    document = web.succeed(job)
    link = share(client, job, ben)
    assert link["about"]["created_by"] == "Ben's laptop"
    assert client.get(f"/jobs/{job}/links", headers=ann).json()["data"] == [link["about"]]
    for headers, status in ((outsider, 404), (sends, 403), (reads, 403), ({}, 401)):
        assert client.post(f"/jobs/{job}/links", headers=headers).status_code == status
    token = link["url"].rpartition("/")[2]
    assert client.get("/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert client.get(f"/shared/{ann['Authorization'].split()[1]}").status_code == 404
    assert "machine only" not in client.get(f"/ui/jobs/{job}/share", headers=ann).text

    answers = [client.get(link["url"], headers={"X-Request-Id": f"reader-{number}"}) for number in range(40)]
    assert {answer.text for answer in answers[:30]} == {document}
    assert problem_code(answers[-1]) == "rate-exceeded"
    assert client.get("/jobs", headers=ann).status_code == 200
    client.get(f"/shared/{token}/")
    client.post(f"/shared/{token}")
    client.get(f"/login?back=/shared/{token}")
    client.get(f"/jobs/{ann['Authorization'].split()[1]}", headers=ben)
    client.get(f"/SHARED/x/{token[:-1]}", headers={"X-Request-Id": "last"})
    wait_until(lambda: "last" in web.process.log.read_text(), 10)
    log = web.process.log.read_text()
    for secret in (token, ann["Authorization"].split()[1]):
        assert secret.removeprefix("faal_")[5:25] not in log
    [line] = [line for line in map(json.loads, log.splitlines()) if line.get("request_id") == "reader-1"]
    assert (line["event"], line["link_id"]) == ("GET /shared/… 200", link["about"]["id"])
    assert token.encode() not in b"".join(file.read_bytes() for file in database_files(web.site.settings.data_dir))


def problem_code(answer: httpx.Response) -> str:
    """Return the code of a problem whose instance hides the token."""
    body = answer.json()
    assert (answer.status_code, body["instance"]) == (body["status"], "/shared/…")
    return str(body["code"])


def database_files(folder: Path) -> list[Path]:
    """Return the files of the site's database."""
    files = list(folder.rglob("*.db*"))
    assert files
    return files
