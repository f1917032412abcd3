"""Access control: every route without a key, with another owner's key, and with a key that lacks the scope."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from api.app import create_app
from faal_client.vocabulary import Scope
from jobs import dataset_registry, keys, lifecycle
from jobs.settings import Settings
from tests.service.api.conftest import AUDIT, FINETUNE, SPEC, Web
from tests.service.api.test_uploads import form, weights
from tests.service.processes import ROOT, Site, wait_until

OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/problems/{code}", "/login", "/logout", "/shared/{token}"}
FOR_ADMINISTRATORS = {"/keys", "/keys/{id}/revoke", "/ui/keys", "/ui/keys/{id}/revoke"}
FOR_WATCHERS = {"/metrics"}
THAT_CHANGE_NOTHING = {  # although they are POST requests
    f"{part}/jobs/{{id}}/{act}" for part in ("", "/ui") for act in ("gate", "pack")
}
MARK = "ann-alone"  # in the names of all that is hers
PLAN = {"name": MARK, "model_name": "hers", **AUDIT}
STUDY = {"name": MARK, "methods": [{"type": "faal"}], "seeds": [0], **FINETUNE}


def _routes() -> list[tuple[str, str]]:
    routers = [route.original_router for route in create_app(Settings()).routes if hasattr(route, "original_router")]
    api_routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return sorted((method, route.path) for route in api_routes for method in route.methods if route.path not in OPEN)


ROUTES = _routes()
assert len(ROUTES) > 30


@dataclass(frozen=True)
class GuardedService:
    """A service with keys, and the ids of ann's rows in it."""

    web: Web
    ann: dict[str, str]
    ben: dict[str, str]
    admin: dict[str, str]
    ids: dict[str, str]

    def ask(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        """Send the request to that route, about ann's resources, with a valid body."""
        kind = path.removeprefix("/ui").split("/")[1] or "jobs"
        address = path.replace("{id}", self.ids.get(kind, "key_0")).replace("{number}", "0").replace("{link}", "link_0")
        job_fields = {"model": self.ids["models"], "dataset": "fashion-mnist-subset"}
        body: dict[str, Any] = {}
        if path == "/jobs/estimate":
            body["json"] = {"kind": "audit", **AUDIT, **job_fields}
        elif method == "POST" and path in ("/jobs/audit", "/jobs/finetune"):
            body["json"] = (AUDIT if path.endswith("audit") else FINETUNE) | job_fields
        elif method == "POST" and path == "/ui/jobs":
            body["data"] = job_fields
        elif path == "/ui/plans/new":
            body["params"] = {"like": self.ids["jobs"]}
        elif method == "POST" and path == "/ui/plans":
            body["data"] = {"like": self.ids["jobs"]}
        elif method == "POST" and path == "/uploads":
            body["json"] = {"size": 9}
        elif method == "POST" and path == "/webhooks":
            body["json"] = {"url": "https://ben.example/"}
        elif method == "POST" and path == "/plans":
            body["json"] = PLAN
        elif method == "POST" and path == "/studies":
            body["json"] = STUDY | job_fields
        elif method == "PATCH" and path == "/plans/{id}":
            body["json"] = {"paused": True}
        elif path == "/jobs/{id}/gate":
            body["json"] = {"min_worst": 0.25}
        elif path == "/jobs/{id}/pack":
            body["json"] = {}
        elif method == "POST" and path == "/keys":
            body["json"] = {"owner": "ben", "name": "more"}
        elif method == "POST" and path.endswith(("/models", "/datasets")):
            body["files"] = {"file": ("x.zip", b"PK\x03\x04")}
        return self.web.client.request(method, address, headers=headers, **body)


@pytest.fixture(scope="module")
def guarded_service(guarded_web: Web) -> GuardedService:
    """Return a service with keys, with ann's model, data set, and an audit that has succeeded."""
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
    web.model("hers", owner="ann")
    plan = client.post("/plans", headers=ann, json=PLAN).json()["id"]
    study = client.post("/studies", headers=ann, json=STUDY | {"model": model}).json()["id"]
    ids = {
        "jobs": job["id"],
        "models": model,
        "datasets": dataset.id,
        "uploads": upload,
        "webhooks": hook,
        "plans": plan,
        "studies": study,
    }
    return GuardedService(web, ann, ben, admin, ids)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_nobody_gets_anything(guarded_service: GuardedService, method: str, path: str) -> None:
    """A request without a key, or with an unknown key, gets 401 with instructions, or the form to sign in, and no data."""
    made_up = {"Authorization": "Bearer faal_made-up"}
    for headers in ({}, made_up, {"Authorization": "Basic YTpi"}, {"Cookie": "faal_session=key_0.x.y"}):
        answer = guarded_service.ask(method, path, headers)
        if path == "/" or path.startswith("/ui/"):
            assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (303, "/login")
        else:
            assert answer.status_code == 401
            assert answer.json()["code"] == ("key-refused" if headers == made_up else "key-required")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert MARK not in answer.text


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_another_owner_gets_nothing_of_hers(guarded_service: GuardedService, method: str, path: str) -> None:
    """Ben cannot see or use ann's resources: 404 by id, absent from every list and page, and refused in his requests."""
    answer = guarded_service.ask(method, path, guarded_service.ben)
    if path in FOR_ADMINISTRATORS | FOR_WATCHERS:
        assert answer.status_code == 403
    elif (
        "{id}" in path
        or path in ("/jobs/audit", "/jobs/finetune", "/jobs/estimate", "/signing-key", "/ui/plans/new")
        or (method, path) in (("POST", "/ui/jobs"), ("POST", "/ui/plans"), ("POST", "/plans"), ("POST", "/studies"))
    ):
        assert answer.status_code == 404
    else:
        assert answer.status_code in (200, 201, 202, 303, 415, 422)
    assert MARK not in answer.text


def test_she_gets_all_of_it(guarded_service: GuardedService) -> None:
    """The same requests with ann's key succeed, so the refusals above depend on the owner and not on the request."""
    for path in (
        "/jobs/{id}",
        "/jobs/{id}/events",
        "/models/{id}",
        "/datasets/{id}",
        "/plans/{id}",
        "/studies/{id}",
        "/ui/jobs/{id}",
        "/ui/models/{id}",
        "/ui/plans/{id}",
        "/ui/studies/{id}",
    ):
        answer = guarded_service.ask("GET", path, guarded_service.ann)
        assert answer.status_code == 200
        assert MARK in answer.text or guarded_service.ids["models"] in answer.text
    for path in (
        "/jobs",
        "/models",
        "/datasets",
        "/plans",
        "/studies",
        "/webhooks",
        "/",
        "/ui/models",
        "/ui/datasets",
        "/ui/plans",
        "/ui/webhooks",
    ):
        assert MARK in guarded_service.ask("GET", path, guarded_service.ann).text
    assert guarded_service.ask("GET", "/jobs/{id}/report", guarded_service.ann).status_code == 200
    assert guarded_service.ask("GET", "/models/{id}/weights", guarded_service.ann).status_code == 200


def test_another_owners_data_set_is_of_no_use(guarded_service: GuardedService) -> None:
    """A job on another owner's data set is refused like one on a missing data set, also for an administrator."""
    own = guarded_service.web.model("ben's", owner="ben")
    body = AUDIT | {"model": own, "dataset": guarded_service.ids["datasets"]}
    answer = guarded_service.web.client.post("/jobs/audit", headers=guarded_service.ben, json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset-not-found")
    assert guarded_service.ask("GET", "/jobs/{id}", guarded_service.admin).status_code == 404


def test_names_of_requests_are_each_owners(guarded_service: GuardedService) -> None:
    """The same idempotency key of two owners creates two jobs."""
    ids = set()
    for owner, headers in (("ann", guarded_service.ann), ("ben", guarded_service.ben)):
        body = AUDIT | {"model": guarded_service.web.model(owner, owner=owner)}
        answer = guarded_service.web.client.post(
            "/jobs/audit", headers=headers | {"Idempotency-Key": "same"}, json=body
        )
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert len(ids) == 2


def test_a_team_shares_its_jobs(guarded_service: GuardedService) -> None:
    """Keys of one owner see and change each other's jobs, which name the submitting key, and share idempotency keys."""
    web, client = guarded_service.web, guarded_service.web.client
    ann, colleague = guarded_service.ann, web.key("ann", Scope.READ, Scope.SUBMIT, name="Bea's laptop")
    body = AUDIT | {"model": guarded_service.ids["models"]}
    answers = [
        client.post("/jobs/audit", headers=one | {"Idempotency-Key": "team"}, json=body) for one in (colleague, ann)
    ]
    job, again = (answer.json() for answer in answers)
    assert (job["id"], job["submitted_by"]) == (again["id"], "Bea's laptop")
    assert client.get("/jobs", headers=ann).json()["data"][0] == job
    assert client.post(f"/jobs/{job['id']}/cancel", headers=ann).json()["status"] == "cancelled"
    retried = client.post(f"/jobs/{job['id']}/retry", headers=ann).json()
    assert (retried["retry_of"], retried["submitted_by"]) == (job["id"], "test")
    client.post("/datasets", headers=colleague, files={"file": ("x.zip", b"PK\x03\x04 of the team")})
    check = client.get("/jobs", headers=ann, params={"kind": "check-dataset"}).json()["data"][0]
    assert check["submitted_by"] == "Bea's laptop"
    assert job["id"] not in client.get("/jobs", headers=guarded_service.ben).text


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_keys_allow_what_their_scopes_say(guarded_service: GuardedService, method: str, path: str) -> None:
    """Without its scope a route answers 403: a key that only reads changes nothing, one that only submits sees nothing."""
    scope_needed = Scope.READ if method == "GET" or path in THAT_CHANGE_NOTHING else Scope.SUBMIT
    scope_needed = (
        Scope.ADMIN if path in FOR_ADMINISTRATORS else Scope.METRICS if path in FOR_WATCHERS else scope_needed
    )
    others = guarded_service.web.key("ann", *(scope for scope in Scope if scope is not scope_needed))
    answer = guarded_service.ask(method, path, others)
    assert answer.status_code == 403
    assert "scope" in answer.text
    assert MARK not in answer.text


def test_administrators_make_list_and_revoke_keys(guarded_service: GuardedService) -> None:
    """A key created over HTTP works at once, appears in one answer only, is listed without its secret, and ends when revoked."""
    client, request = guarded_service.web.client, {"owner": "cem", "name": "pipeline", "scopes": ["read"], "days": 1}
    answer = client.post("/keys", headers=guarded_service.admin, json=request)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    key, description = answer.json()["key"], answer.json()["about"]
    bearer = {"Authorization": f"Bearer {key}"}
    assert (description["owner"], description["scopes"]) == ("cem", ["read"])
    assert client.get("/jobs", headers=bearer).json()["data"] == []
    keys = client.get("/keys", headers=guarded_service.admin)
    assert keys.json()["data"][0] == description
    of_cem = client.get("/keys", headers=guarded_service.admin, params={"owner": "cem"})
    assert of_cem.json()["data"] == [description]
    assert key not in keys.text
    assert (
        client.post(f"/keys/{description['id']}/revoke", headers=guarded_service.admin).json()["revoked_at"] is not None
    )
    assert client.get("/jobs", headers=bearer).json()["code"] == "key-refused"
    assert client.post("/keys/key_0/revoke", headers=guarded_service.admin).json()["code"] == "key-not-found"
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
        assert client.post("/keys", headers=guarded_service.admin, json=request | wrong).status_code == 422


def test_a_page_is_signed_in_to_with_a_key(guarded_service: GuardedService) -> None:
    """The form takes a key; the session shows and changes the owner's own data, and ends when the user signs out."""
    base = str(guarded_service.web.client.base_url)
    with httpx.Client(base_url=base) as browser:
        form = browser.get("/ui/models?after=model_1").headers["Location"]
        assert "back=%2Fui%2Fmodels%3Fafter%3Dmodel_1" in form
        key = guarded_service.ann["Authorization"].split()[1]
        answer = browser.post("/login", data={"key": f" {key} ", "back": "/ui/models"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/models")
        cookie = answer.headers["Set-Cookie"]
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


def test_sessions_end_with_their_key(guarded_service: GuardedService) -> None:
    """A session is refused after its key was revoked, and when another secret signed it."""
    bearer = guarded_service.web.key("ann", Scope.READ)
    with httpx.Client(base_url=str(guarded_service.web.client.base_url)) as browser:
        browser.post("/login", data={"key": bearer["Authorization"].split()[1]})
        assert browser.get("/ui/models").status_code == 200
        with guarded_service.web.site.sessions.begin() as session:
            keys.revoke(session, keys.list_keys(session, limit=1).data[0].id)
        part = browser.get(
            "/ui/jobs", headers={"HX-Request": "true", "HX-Current-URL": f"{browser.base_url}/?after=job_1"}
        )
        assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/login?back=%2F%3Fafter%3Djob_1")
        for address in ("http://[", "", "https://elsewhere.example//e", "x" * 5000):
            odd = browser.get("/ui/jobs", headers={"HX-Request": "true", "HX-Current-URL": address})
            assert odd.status_code == 401
            assert odd.headers["HX-Redirect"].startswith("/login")


def test_streams_end_with_their_key(guarded_service: GuardedService) -> None:
    """A stream that was opened before its key was revoked sends no event of the job that happens afterwards."""
    web = guarded_service.web
    bearer = web.key("ann", Scope.READ)
    body = AUDIT | {"model": guarded_service.ids["models"]}
    job = web.client.post("/jobs/audit", headers=guarded_service.ann, json=body).json()["id"]
    address = f"{web.client.base_url}/jobs/{job}/events"
    with httpx.stream("GET", address, headers=bearer | {"Accept": "text/event-stream"}, timeout=20) as answer:
        lines = answer.iter_lines()
        assert any("queued" in line for line in itertools.islice(lines, 4))
        with web.site.sessions.begin() as session:
            keys.revoke(session, keys.list_keys(session, limit=1).data[0].id)
        web.run(job)
        assert not any("running" in line for line in lines)


def test_a_wrong_key_gets_the_form_again(guarded_service: GuardedService) -> None:
    """A wrong key gets 401 and the form again, with the reason."""
    answer = guarded_service.web.client.post("/login", data={"key": "faal_wrong"})
    assert answer.status_code == 401
    assert "not accepted" in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "x", "/\n/e", ""]
)
def test_signing_in_leads_nowhere_else(guarded_service: GuardedService, back: str) -> None:
    """After signing in, the browser is redirected to an address of this service only."""
    key = guarded_service.ann["Authorization"].split()[1]
    assert guarded_service.web.client.post("/login", data={"key": key, "back": back}).headers["Location"] == "/"


def test_without_keys_only_this_machine_is_answered(open_site: Any, tmp_path: Path) -> None:
    """A service that listens everywhere uses the loopback address, and logs it, until a key or FAAL_OPEN exists."""

    def is_reachable(site: Site) -> bool:
        process, client = site.api()
        with closing(client):
            wait_until(lambda: client.get("/healthz").is_success, 30)
            try:
                answer = httpx.get(f"http://127.0.0.2:{site.settings.port}/healthz").is_success
            except httpx.ConnectError:
                assert "listens on 127.0.0.1" in process.log.read_text()
                answer = False
        process.stop()
        return answer

    assert not is_reachable(open_site(host="0.0.0.0"))
    assert is_reachable(open_site(host="0.0.0.0", open=True))
    local_site = open_site(host="0.0.0.0")
    with local_site.sessions.begin() as session:
        keys.issue(session, b"s" * 32, owner="ann", name="first", scopes=[Scope.READ], lifetime=None)
    assert is_reachable(local_site)


def test_the_first_key_is_made_on_the_machine(open_site: Any) -> None:
    """`faal-service keys` creates a key that works, prints the key alone, lists it without its secret, and revokes it.

    The owner of the key has the file that arrived while the key was created.
    """
    site = open_site()
    environment = os.environ | {"FAAL_DATA_DIR": str(site.settings.data_dir)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "api.keys", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    _, client = site.api()
    upload = form(weights(), {"spec": SPEC.model_dump_json(), "name": "late"}, {})
    body, creations = upload.read(), []

    def send() -> Iterator[bytes]:
        yield body[:-100]
        creations.append(run("create", "--owner", "ann", "--scope", "read", "--scope", "admin", "--days", "0.5"))
        yield body[-100:]

    model = client.post("/models", content=send(), headers={"Content-Type": upload.headers["Content-Type"]}).json()
    assert creations[0].returncode == 0, creations[0].stderr
    bearer = {"Authorization": f"Bearer {creations[0].stdout.strip()}"}
    assert client.get("/models", headers=bearer).json()["data"] == [model]
    keys = client.get("/keys", headers=bearer).json()["data"]
    assert [json.loads(line) for line in run("list").stdout.splitlines()] == [
        {name: value for name, value in key.items() if name != "object"} for key in keys
    ]
    assert (keys[0]["owner"], keys[0]["scopes"]) == ("ann", ["admin", "read"])
    assert run("revoke", keys[0]["id"]).returncode == 0
    assert client.get("/keys", headers=bearer).status_code == 401
    refusal = run("create", "--owner", "ann", "--days", "-1")
    assert (refusal.returncode, refusal.stdout) == (1, "")
    assert "Traceback" not in refusal.stderr
