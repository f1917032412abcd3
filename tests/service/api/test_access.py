"""Who may ask for what: every route, as nobody, as another owner, and with a key that does not allow it."""

import itertools
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from api.app import create_app
from jobs import dataset_registry, keys, lifecycle
from jobs.keys import Scope
from jobs.settings import Settings
from tests.service.api.conftest import AUDIT, FINETUNE, Web
from tests.service.processes import ROOT, Site, until

OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/problems/{code}", "/login", "/logout"}
FOR_ADMINISTRATORS = {"/keys", "/keys/{id}/revoke"}
FOR_WATCHERS = {"/metrics"}
MARK = "ann-alone"  # in the names of all that is hers


def _routes() -> list[tuple[str, str]]:
    included = [route.original_router for route in create_app(Settings()).routes if hasattr(route, "original_router")]
    found = [route for router in included for route in router.routes if isinstance(route, APIRoute)]
    return sorted((method, route.path) for route in found for method in route.methods if route.path not in OPEN)


ROUTES = _routes()
assert len(ROUTES) > 30


@dataclass(frozen=True)
class Guarded:
    """A service with keys, and what is ann's there."""

    web: Web
    ann: dict[str, str]
    ben: dict[str, str]
    admin: dict[str, str]
    ids: dict[str, str]

    def ask(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        """That route, about ann's things, with a body that could be sent."""
        kind = path.removeprefix("/ui").split("/")[1] or "jobs"
        address = path.replace("{id}", self.ids.get(kind, "key_0")).replace("{number}", "0")
        about = {"model": self.ids["models"], "dataset": "fashion-mnist-subset"}
        body: dict[str, Any] = {}
        if path == "/jobs/estimate":
            body["json"] = {"kind": "audit", **AUDIT, **about}
        elif method == "POST" and path in ("/jobs/audit", "/jobs/finetune"):
            body["json"] = (AUDIT if path.endswith("audit") else FINETUNE) | about
        elif method == "POST" and path == "/ui/jobs":
            body["data"] = about
        elif method == "POST" and path == "/uploads":
            body["json"] = {"size": 9}
        elif method == "POST" and path == "/webhooks":
            body["json"] = {"url": "https://ben.example/"}
        elif method == "POST" and path == "/keys":
            body["json"] = {"owner": "ben", "name": "more"}
        elif method == "POST" and path.endswith(("/models", "/datasets")):
            body["files"] = {"file": ("x.zip", b"PK\x03\x04")}
        return self.web.client.request(method, address, headers=headers, **body)


@pytest.fixture(scope="module")
def guarded(guarded_web: Web) -> Guarded:
    """A service with keys, with ann's model, data set, and an audit that has succeeded."""
    web, site, client = guarded_web, guarded_web.site, guarded_web.client
    ann, ben = (web.key(owner, Scope.READ, Scope.SUBMIT) for owner in ("ann", "ben"))
    admin = web.key("root", *Scope)
    model = web.model(MARK, owner="ann")
    file = site.storage.put([b"PK\x03\x04 of ann"], media_type="application/zip")
    with site.sessions.begin() as session:
        dataset, check = dataset_registry.register_upload(session, name=MARK, upload=file, owner="ann")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
        summary = {"shape": [1, 28, 28], "class_names": [MARK] * 10, "images": {"train": 9, "test": 9}}
        lifecycle.succeed(session, check.id, 1, summary=summary)
    job = client.post("/jobs/audit", headers=ann, json=AUDIT | {"model": model, "metadata": {"of": MARK}}).json()
    web.run(job["id"])(event=("note", {"of": MARK}))
    web.succeed(job["id"])
    upload = client.post("/uploads", headers=ann, json={"size": 9}).json()["id"]
    hook = client.post("/webhooks", headers=ann, json={"url": f"https://{MARK}.example/"}).json()["about"]["id"]
    ids = {"jobs": job["id"], "models": model, "datasets": dataset.id, "uploads": upload, "webhooks": hook}
    return Guarded(web, ann, ben, admin, ids)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_nobody_gets_anything(guarded: Guarded, method: str, path: str) -> None:
    """Whoever sends no key, or one that is not ours, gets 401 with how to ask, or the form to sign in; and no data."""
    made_up = {"Authorization": "Bearer faal_made-up"}
    for headers in ({}, made_up, {"Authorization": "Basic YTpi"}, {"Cookie": "faal_session=key_0.x.y"}):
        answer = guarded.ask(method, path, headers)
        if path == "/" or path.startswith("/ui/"):
            assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (303, "/login")
        else:
            assert answer.status_code == 401
            assert answer.json()["code"] == ("key-refused" if headers == made_up else "key-required")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert MARK not in answer.text


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_another_owner_gets_nothing_of_hers(guarded: Guarded, method: str, path: str) -> None:
    """What is ann's does not exist for ben: 404 by id, in no list, on no page, and of no use in a request of his."""
    answer = guarded.ask(method, path, guarded.ben)
    if path in FOR_ADMINISTRATORS | FOR_WATCHERS:
        assert answer.status_code == 403
    elif (
        "{id}" in path
        or path in ("/jobs/audit", "/jobs/finetune", "/jobs/estimate")
        or (method, path) == ("POST", "/ui/jobs")
    ):
        assert answer.status_code == 404
    else:
        assert answer.status_code in (200, 201, 202, 303, 415, 422)
    assert MARK not in answer.text


def test_she_gets_all_of_it(guarded: Guarded) -> None:
    """The same requests with her own key are answered: the routes above refuse who asks, not what."""
    for path in (
        "/jobs/{id}",
        "/jobs/{id}/events",
        "/models/{id}",
        "/datasets/{id}",
        "/ui/jobs/{id}",
        "/ui/models/{id}",
    ):
        answer = guarded.ask("GET", path, guarded.ann)
        assert answer.status_code == 200
        assert MARK in answer.text or guarded.ids["models"] in answer.text
    for path in ("/jobs", "/models", "/datasets", "/webhooks", "/", "/ui/models", "/ui/datasets"):
        assert MARK in guarded.ask("GET", path, guarded.ann).text
    assert guarded.ask("GET", "/jobs/{id}/report", guarded.ann).status_code == 200
    assert guarded.ask("GET", "/models/{id}/weights", guarded.ann).status_code == 200


def test_another_owners_data_set_is_of_no_use(guarded: Guarded) -> None:
    """A job on somebody else's data set is refused as one on none; an administrator sees others' things no more."""
    own = guarded.web.model("ben's", owner="ben")
    body = AUDIT | {"model": own, "dataset": guarded.ids["datasets"]}
    answer = guarded.web.client.post("/jobs/audit", headers=guarded.ben, json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset-not-found")
    assert guarded.ask("GET", "/jobs/{id}", guarded.admin).status_code == 404


def test_names_of_requests_are_each_owners(guarded: Guarded) -> None:
    """The same idempotency key of two owners makes two jobs."""
    made = set()
    for owner, headers in (("ann", guarded.ann), ("ben", guarded.ben)):
        body = AUDIT | {"model": guarded.web.model(owner, owner=owner)}
        answer = guarded.web.client.post("/jobs/audit", headers=headers | {"Idempotency-Key": "same"}, json=body)
        assert answer.status_code == 202
        made.add(answer.json()["id"])
    assert len(made) == 2


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_keys_allow_what_their_scopes_say(guarded: Guarded, method: str, path: str) -> None:
    """Without a scope its routes answer 403: reading alone changes nothing, submitting alone sees nothing."""
    needed = Scope.READ if method == "GET" else Scope.SUBMIT
    needed = Scope.ADMIN if path in FOR_ADMINISTRATORS else Scope.METRICS if path in FOR_WATCHERS else needed
    others = guarded.web.key("ann", *(scope for scope in Scope if scope is not needed))
    answer = guarded.ask(method, path, others)
    assert answer.status_code == 403
    assert "scope" in answer.text
    assert MARK not in answer.text


def test_administrators_make_list_and_revoke_keys(guarded: Guarded) -> None:
    """A key made over HTTP works at once, is told once, listed without itself, and refused after it was revoked."""
    client, asked = guarded.web.client, {"owner": "cem", "name": "pipeline", "scopes": ["read"], "days": 1}
    made = client.post("/keys", headers=guarded.admin, json=asked)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    key, about = made.json()["key"], made.json()["about"]
    bearer = {"Authorization": f"Bearer {key}"}
    assert (about["owner"], about["scopes"]) == ("cem", ["read"])
    assert client.get("/jobs", headers=bearer).json()["data"] == []
    listed = client.get("/keys", headers=guarded.admin)
    assert listed.json()["data"][0] == about
    assert key not in listed.text
    assert client.post(f"/keys/{about['id']}/revoke", headers=guarded.admin).json()["revoked_at"] is not None
    assert client.get("/jobs", headers=bearer).json()["code"] == "key-refused"
    assert client.post("/keys/key_0/revoke", headers=guarded.admin).json()["code"] == "key-not-found"
    for wrong in (
        {"scopes": []},
        {"scopes": ["all"]},
        {"days": 0},
        {"owner": ""},
        {"owner": "a\nb"},
        {"owner": " ann"},
        {"owner": "ann\u202e"},
        {"more": 1},
    ):
        assert client.post("/keys", headers=guarded.admin, json=asked | wrong).status_code == 422


def test_a_page_is_signed_in_to_with_a_key(guarded: Guarded) -> None:
    """The form takes a key, the session shows what is hers, changes what is hers, and ends by signing out."""
    base = str(guarded.web.client.base_url)
    with httpx.Client(base_url=base) as browser:
        form = browser.get("/ui/models?after=model_1").headers["Location"]
        assert "back=%2Fui%2Fmodels%3Fafter%3Dmodel_1" in form
        key = guarded.ann["Authorization"].split()[1]
        entered = browser.post("/login", data={"key": f" {key} ", "back": "/ui/models"})
        assert (entered.status_code, entered.headers["Location"]) == (303, "/ui/models")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        assert key not in cookie
        page = browser.get("/ui/models").text
        assert MARK in page
        assert "Sign out" in page
        assert browser.get("/jobs").status_code == 200
        foreign = browser.post("/ui/jobs", data={}, headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.json()["code"] == "cross-site-request"
        elsewhere = browser.post("/ui/jobs", data={}, headers={"Origin": "https://elsewhere.example"})
        assert elsewhere.json()["code"] == "cross-site-request"
        assert browser.post("/logout").headers["Location"] == "/login"
        assert browser.get("/ui/models").status_code == 303


def test_sessions_end_with_their_key(guarded: Guarded) -> None:
    """After its key was revoked, and when it was signed by somebody else, a session is none."""
    bearer = guarded.web.key("ann", Scope.READ)
    with httpx.Client(base_url=str(guarded.web.client.base_url)) as browser:
        browser.post("/login", data={"key": bearer["Authorization"].split()[1]})
        assert browser.get("/ui/models").status_code == 200
        with guarded.web.site.sessions.begin() as session:
            keys.revoke(session, keys.list_keys(session, limit=1).data[0].id)
        part = browser.get(
            "/ui/jobs", headers={"HX-Request": "true", "HX-Current-URL": f"{browser.base_url}/?after=job_1"}
        )
        assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/login?back=%2F%3Fafter%3Djob_1")
        for address in ("http://[", "", "https://elsewhere.example//e", "x" * 5000):
            odd = browser.get("/ui/jobs", headers={"HX-Request": "true", "HX-Current-URL": address})
            assert odd.status_code == 401
            assert odd.headers["HX-Redirect"].startswith("/login")


def test_streams_end_with_their_key(guarded: Guarded) -> None:
    """What happens to a job after the key was revoked is not told to a stream that was opened before."""
    web = guarded.web
    bearer = web.key("ann", Scope.READ)
    about = AUDIT | {"model": guarded.ids["models"]}
    job = web.client.post("/jobs/audit", headers=guarded.ann, json=about).json()["id"]
    address = f"{web.client.base_url}/jobs/{job}/events"
    with httpx.stream("GET", address, headers=bearer | {"Accept": "text/event-stream"}, timeout=20) as answer:
        lines = answer.iter_lines()
        assert any("queued" in line for line in itertools.islice(lines, 4))
        with web.site.sessions.begin() as session:
            keys.revoke(session, keys.list_keys(session, limit=1).data[0].id)
        web.run(job)
        assert not any("running" in line for line in lines)


def test_a_wrong_key_gets_the_form_again(guarded: Guarded) -> None:
    """With what was wrong, 401, and no session."""
    answer = guarded.web.client.post("/login", data={"key": "faal_wrong"})
    assert answer.status_code == 401
    assert "not accepted" in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "x", "/\n/e", ""]
)
def test_signing_in_leads_nowhere_else(guarded: Guarded, back: str) -> None:
    """Whatever address is asked for after signing in, it is one of this service."""
    key = guarded.ann["Authorization"].split()[1]
    assert guarded.web.client.post("/login", data={"key": key, "back": back}).headers["Location"] == "/"


def test_without_keys_only_this_machine_is_answered(open_site: Any, tmp_path: Path) -> None:
    """Set to listen everywhere, a service listens on the loopback address and says so, until there is a key or FAAL_OPEN."""

    def reached(site: Site) -> bool:
        process, client = site.api()
        with closing(client):
            until(lambda: client.get("/healthz").is_success, 30)
            try:
                answer = httpx.get(f"http://127.0.0.2:{site.settings.port}/healthz").is_success
            except httpx.ConnectError:
                assert "listens on 127.0.0.1" in process.log.read_text()
                answer = False
        process.stop()
        return answer

    assert not reached(open_site(host="0.0.0.0"))
    assert reached(open_site(host="0.0.0.0", open=True))
    closed = open_site(host="0.0.0.0")
    with closed.sessions.begin() as session:
        keys.issue(session, b"s" * 32, owner="ann", name="first", scopes=[Scope.READ], lifetime=None)
    assert reached(closed)


def test_the_first_key_is_made_on_the_machine(open_site: Any) -> None:
    """`faal-service keys` makes a key that the service takes, prints nothing but it, lists it without it, and revokes it."""
    site = open_site()
    environment = os.environ | {"FAAL_DATA_DIR": str(site.settings.data_dir)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "api.keys", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    made = run("create", "--owner", "ann", "--scope", "read", "--scope", "admin", "--days", "0.5")
    assert made.returncode == 0, made.stderr
    bearer = {"Authorization": f"Bearer {made.stdout.strip()}"}
    _, client = site.api()
    listed = client.get("/keys", headers=bearer).json()["data"]
    assert [json.loads(line) for line in run("list").stdout.splitlines()] == [
        {name: value for name, value in key.items() if name != "object"} for key in listed
    ]
    assert (listed[0]["owner"], listed[0]["scopes"]) == ("ann", ["admin", "read"])
    assert run("revoke", listed[0]["id"]).returncode == 0
    assert client.get("/keys", headers=bearer).status_code == 401
    refused = run("create", "--owner", "ann", "--days", "-1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Traceback" not in refused.stderr
