"""Rules of every request: problems, ids, limits and headers; and the service's reports about its own health."""

import shutil
from contextlib import ExitStack, closing

import pytest

from jobs import database
from tests.servers import find_free_port, postgres_folder, postgres_in
from tests.service.api.conftest import Web

PAGES = ["/", "/ui/models", "/ui/datasets"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/static/nothing.css", 404, "not-found"),
        ("DELETE", "/jobs", 405, "method-not-allowed"),
        ("GET", "/jobs/job_0", 404, "job-not-found"),
        ("GET", "/models/model_0", 404, "model-not-found"),
        ("GET", "/models/model_0/lineage", 404, "model-not-found"),
        ("GET", "/datasets/dataset_0", 404, "dataset-not-found"),
        ("GET", "/jobs/%00", 422, "invalid-request"),
    ],
)
def test_refusals_are_problems(web, problem, method, path, status, code) -> None:
    """Every refusal, also by the framework, is a problem with a code."""
    answer = problem(web.client.request(method, path))
    assert (answer["status"], answer["code"]) == (status, code)


def test_a_wrong_method_names_the_right_ones(web) -> None:
    """An answer 405 lists the right methods in Allow."""
    assert web.client.get("/jobs/job_0/cancel").headers["Allow"] == "POST"
    for path in ("/models", "/datasets", "/keys"):  # each by two routes
        assert web.client.options(path).headers["Allow"] == "GET, POST"
    assert web.client.post("/static/faal.css").headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"a": 1}}', b"[" * 100_000])
def test_bodies_that_are_no_json_are_malformed(web, problem, body) -> None:
    """A body that cannot be parsed is answered with 400, also if it overflows a parser."""
    answer = problem(web.client.post("/jobs/audit", content=body, headers={"Content-Type": "application/json"}))
    assert (answer["status"], answer["code"]) == (400, "malformed-body")


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_bodies_are_bounded(web, problem, content_type) -> None:
    """A body above 1 MiB is refused with 413 by every route that takes no file, with or without a stated length."""
    for content in (bytes(2**20 + 1), (bytes(2**16) for _ in range(17))):
        answer = problem(web.client.post("/jobs/audit", content=content, headers={"Content-Type": content_type}))
        assert (answer["status"], answer["code"]) == (413, "upload-too-large")


def test_requests_have_ids(web) -> None:
    """A harmless request id of a client is kept; any other is replaced by a new one."""
    assert web.client.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    for harmful in ("two words", "x" * 65, "<b>"):
        request_id = web.client.get("/healthz", headers={"X-Request-Id": harmful}).headers["X-Request-Id"]
        assert request_id.startswith("req_")
    assert web.client.get("/healthz").headers["X-Request-Id"] != web.client.get("/healthz").headers["X-Request-Id"]


@pytest.mark.parametrize("path", [*PAGES, "/jobs", "/static/faal.css", "/nothing"])
def test_browsers_are_told_to_be_careful(web, path) -> None:
    """Every answer forbids sniffing, framing, foreign content, and the use of a cached copy without revalidation."""
    headers = web.client.get(path).headers
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_other_sites_change_nothing(web, problem) -> None:
    """A browser that reports a request from another site, also from another port, may read but change nothing."""
    for path, site in [("/jobs/audit", "cross-site"), ("/models", "same-site"), ("/ui/jobs", "cross-site")]:
        answer = problem(web.client.post(path, headers={"Sec-Fetch-Site": site}))
        assert (answer["status"], answer["code"]) == (403, "cross-site-request")
    assert web.client.get("/jobs", headers={"Sec-Fetch-Site": "cross-site"}).is_success
    own = web.client.post(f"/ui/jobs/{web.audit()}/cancel", headers={"Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 303


@pytest.mark.parametrize("origin", ["null", "http://[", "https://elsewhere.example", "http://127.0.0.1:1", "x" * 5000])
def test_browsers_that_only_tell_an_origin_are_believed(web, problem, origin) -> None:
    """Over plain HTTP, where browsers send the origin alone, changes are accepted from this service's own pages only."""
    assert problem(web.client.post("/jobs/audit", headers={"Origin": origin}))["code"] == "cross-site-request"
    own = str(web.client.base_url).rstrip("/")
    assert problem(web.client.post("/jobs/audit", headers={"Origin": own}))["code"] == "invalid-request"


def test_the_catalog_has_all_that_can_be_named(web) -> None:
    """The catalog lists architectures, data sets, presets and methods, with the defaults of all parameters."""
    catalog = web.client.get("/catalog").json()
    assert {"small_resnet", "preact_resnet18"} <= {entry["name"] for entry in catalog["architectures"]}
    assert {"fashion-mnist-subset", "cifar10"} <= {entry["name"] for entry in catalog["datasets"]}
    assert {entry["name"] for entry in catalog["presets"]} == {"quick", "pgd-20", "pgd-100", "standard", "fast"}
    methods = {entry["type"]: entry["defaults"] for entry in catalog["methods"]}
    assert set(methods) == {"faal", "uniform", "frl", "cfa", "wat", "dafa", "cfol", "fsr", "decosam", "head", "hwnwb"}
    assert methods["faal"]["dro_radius"] == 0.2
    assert catalog["training_defaults"]["learning_rates"] == [0.002, 0.0002]


def test_the_catalog_is_searched_by_name(web) -> None:
    """A search lists the architectures whose names contain its text, in either case, and all the rest of the catalog."""
    whole, found = (web.client.get("/catalog", params=params).json() for params in ({}, {"search": "WRN_34"}))
    names = {entry["name"] for entry in whole["architectures"]}
    assert {entry["name"] for entry in found["architectures"]} == {name for name in names if "wrn_34" in name}
    assert len(names) > 1_000
    assert found["datasets"] == whole["datasets"]


def test_the_form_of_a_model_suggests_no_thousand_names(web) -> None:
    """The form suggests our networks and torchvision's; timm's, which are ten times as many, are named in words."""
    page = web.client.get("/ui/models").text
    assert '<option value="dm_wrn_28_10">' in page
    assert '<option value="torchvision/resnet50">' in page
    assert "timm/" in page
    assert page.count("<option") < 200


def test_a_sound_service_is_ready(web) -> None:
    """Health needs no other server; readiness needs the database, storage and broker."""
    assert web.client.get("/healthz").json() == {"status": "ok"}
    assert web.client.get("/readyz").json() == {"status": "ready"}


def test_a_defect_tells_nothing_of_the_inside(own_web, problem) -> None:
    """An unexpected error is 500 with a request id and without internal names; the log has the details."""
    with database.open_database(own_web.site.settings.database_url).begin() as session:
        session.connection().exec_driver_sql("DROP TABLE job_events")
        session.connection().exec_driver_sql("ALTER TABLE jobs RENAME TO lost")
    response = own_web.client.get("/jobs", headers={"X-Request-Id": "find-me"})
    answer = problem(response)
    assert (answer["status"], answer["code"]) == (500, "internal-error")
    assert not any(word in response.text.lower() for word in ("sql", "traceback", "no such table", "operational"))
    log = own_web.process.log.read_text()
    assert "find-me" in log
    assert "GET /jobs 500" in log


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("DELETE FROM alembic_version", "run the migrations"),
        ("UPDATE alembic_version SET version_num = '9999'", "A later version of FAAL has migrated the database"),
    ],
)
def test_a_service_without_its_schema_is_not_ready(own_web, problem, change: str, detail: str) -> None:
    """503 names the database when its schema has another version, and states whether it is earlier or later."""
    with database.open_database(own_web.site.settings.database_url).begin() as session:
        session.connection().exec_driver_sql(change)
    response = own_web.client.get("/readyz")
    answer = problem(response)
    assert (answer["status"], answer["code"]) == (503, "service-not-ready")
    assert [error["parameter"] for error in answer["errors"]] == ["database"]
    assert detail in answer["errors"][0]["detail"]
    assert int(response.headers["Retry-After"]) > 0


def test_a_service_that_cannot_store_is_not_ready(own_web, problem) -> None:
    """503 names the storage when files cannot be written."""
    shutil.rmtree(own_web.site.settings.files_dir, ignore_errors=True)
    own_web.site.settings.files_dir.write_text("a file where the folder was")
    answer = problem(own_web.client.get("/readyz"))
    assert [error["parameter"] for error in answer["errors"]] == ["storage"]


def test_a_service_whose_store_fails_says_so(open_site, object_store, problem) -> None:
    """Without its bucket the service is not ready and names the storage; uploads and downloads get 503 and store nothing."""
    site = open_site(store_url=object_store.new_url())
    process, client = site.api()
    with closing(client):
        web = Web(site, process, client)
        model = web.model()
        object_store.remove(site.settings.store_url)
        answer = problem(client.get("/readyz"))
        assert [(error["parameter"], "no such bucket" in error["detail"]) for error in answer["errors"]] == [
            ("storage", True)
        ]
        for refusal in (
            client.post("/datasets", files={"file": ("a.zip", b"PK\x03\x04")}),
            client.get(f"/models/{model}/weights"),
        ):
            assert (refusal.status_code, problem(refusal)["code"]) == (503, "store-unavailable")
            assert int(refusal.headers["Retry-After"]) > 0
        assert client.get("/datasets").json()["data"] == []


def test_a_service_whose_database_goes_says_so_until_it_is_back(open_site, problem) -> None:
    """While PostgreSQL is down every route that needs it gives 503 with a time to retry; then all routes work as before."""
    with postgres_folder() as folder, ExitStack() as running:
        server = running.enter_context(postgres_in(folder))
        site = open_site(database_url=server.url(server.new_database()))
        with closing(site.api()[1]) as client:
            assert client.get("/jobs").status_code == 200
            running.close()
            for path in ("/jobs", "/models", "/jobs/job_0/events"):
                answer = client.get(path)
                assert (answer.status_code, problem(answer)["code"]) == (503, "database-unavailable")
                assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/healthz").status_code == 200
            with postgres_in(folder):
                assert client.get("/jobs").json()["data"] == []
                site.close()


def test_a_service_without_a_broker_takes_jobs_and_says_so(open_site, problem) -> None:
    """Without a broker, readiness names it within seconds, while uploads are still accepted."""
    site = open_site(broker_url=f"redis://127.0.0.1:{find_free_port()}/0")
    with closing(site.api()[1]) as client:
        answer = problem(client.get("/readyz"))
        assert [error["parameter"] for error in answer["errors"]] == ["broker"]
        assert client.post("/datasets", files={"file": ("a.zip", b"PK\x03\x04")}).status_code == 202
