"""The pages show the stored data, escape text of other people, and their forms do the same as the API."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

import api
from jobs.tables import JobEvent
from tests.service.api.conftest import FINETUNE, SPEC
from tests.service.api.test_uploads import weights

HOSTILE = '<img src=x onerror=alert(1)>"\u202e'
SHOWN = "&lt;img src=x onerror=alert(1)&gt;&#34;\ufffd"


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))


def start(web, **fields: str) -> httpx.Response:
    """Send the form that starts a job, and return the response."""
    return web.client.post("/ui/jobs", data={"kind": "audit", "attacks": "quick"} | fields)


def test_names_are_only_text(web) -> None:
    """A hostile name of a model appears on every page as text, and invisible characters are shown escaped."""
    model = web.model(HOSTILE)
    job = web.audit(model)
    for address in ("/", "/ui/models", f"/ui/models/{model}", f"/ui/jobs/{job}"):
        page = web.client.get(address)
        assert SHOWN in page.text, address
        assert not [tag for tag, _ in Elements(page).elements if tag == "img"], address


def test_pages_obey_their_own_policy(web) -> None:
    """No page has a script, style or handler inside, and each page loads resources of the service only."""
    model = web.model()
    job = web.audit(model)
    web.run(job)(stage="epoch 1 of 2", total=90, done=5)
    for address in (
        "/",
        "/docs",
        "/ui/models",
        "/ui/datasets",
        "/ui/plans",
        f"/ui/plans/new?like={job}",
        f"/ui/models/{model}",
        f"/ui/jobs/{job}",
        "/ui/jobs/none",
    ):
        for tag, attributes in Elements(web.client.get(address)).elements:
            assert tag != "style"
            assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
            assert not [name for name in attributes if name == "style" or name.startswith(("on", "hx-on"))]
            for name in ("href", "src", "action", "hx-get"):
                assert (attributes.get(name) or "/").startswith(("/", "#")), (address, attributes)


def test_pages_can_be_used_by_all(web) -> None:
    """Every field has a label, every id is unique, and every table heading has a scope."""
    for address in ("/", "/ui/models", "/ui/datasets", f"/ui/plans/new?like={web.audit()}"):
        elements = Elements(web.client.get(address)).elements
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        label_targets = {attributes["for"] for tag, attributes in elements if tag == "label" and "for" in attributes}
        for tag, attributes in elements:
            if tag in ("input", "select", "textarea") and attributes.get("type") not in ("radio", "hidden"):
                assert "aria-label" in attributes or attributes["id"] in label_targets, attributes
            assert tag != "th" or attributes.get("scope")
            for name in ("aria-labelledby", "aria-describedby"):
                assert attributes.get(name, ids[0]) in ids


def test_the_form_starts_a_job(web) -> None:
    """A filled-in form leads to the page of the job that the API would have made of it."""
    model = web.model()
    answer = start(web, kind="finetune", model=model, epsilon="0.1", dro_radius="0.7", epochs="3", learning_rate="0.02")
    assert answer.status_code == 303
    job = web.client.get(answer.headers["Location"].replace("/ui", "")).json()
    assert (job["kind"], job["model"]) == ("finetune", model)
    assert job["spec"]["method"]["dro_radius"] == 0.7
    assert job["spec"]["training"]["learning_rates"] == [0.02, 0.02, 0.002]
    assert web.client.get(answer.headers["Location"]).is_success


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"epsilon": "8/0"}, 422, "is not a radius"),
        ({"dataset": "cifar100"}, 422, "The model has 10 classes"),
        ({"model": "model_0"}, 404, "no model"),
        ({"kind": "check-model"}, 422, "kind"),
    ],
)
def test_a_wrong_form_is_shown_again(web, change, status, reason) -> None:
    """A form that is refused is shown again with the reason."""
    page = start(web, **{"model": web.model()} | change)
    assert page.status_code == status
    assert reason in page.text
    assert page.headers["Content-Type"].startswith("text/html")


def test_a_wrong_form_keeps_what_was_written(web) -> None:
    """A refused form keeps the values that a person entered."""
    model = web.model()
    page = start(web, kind="finetune", model=model, epsilon="8/0", seed="7").text
    assert f'value="{model}" selected' in page
    assert 'value="8/0"' in page
    assert 'name="seed" type="number" value="7"' in page


def test_a_job_is_followed_and_called_off(web) -> None:
    """The page of a running job refreshes itself and has a button to cancel; that of a finished job has neither."""
    job = web.audit()
    web.run(job)(stage="clean", total=90, done=30)
    course = web.client.get(f"/ui/jobs/{job}/course").text
    assert f'hx-get="/ui/jobs/{job}/course"' in course
    assert "30 of 90 images" in course
    answer = web.client.post(f"/ui/jobs/{job}/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ui/jobs/{job}")
    assert "stopping" in web.client.get(f"/ui/jobs/{job}").text
    web.fail(job, "training-diverged", "The loss became NaN & more.")
    page = web.client.get(f"/ui/jobs/{job}").text
    assert "The loss became NaN &amp; more." in page
    assert 'href="/problems/training-diverged"' in page
    assert "hx-get" not in page
    assert "/cancel" not in page


def test_the_progress_of_the_whole_job_is_shown(web) -> None:
    """With an estimate, page and list show the finished fraction of the whole job, and the page the time that is left."""
    job = web.client.post("/jobs/finetune", json=FINETUNE | {"model": web.model()}).json()["id"]
    web.run(job)(stage="epoch 1 of 2", total=90, done=30, seconds_run=60, seconds_left=180)
    course, row = web.client.get(f"/ui/jobs/{job}/course").text, web.client.get(f"/ui/jobs?job={job}").text
    assert "30 of 90 images · 25 % of the job, about 3 min left" in course
    for part in (course, row):
        assert '<progress max="1" value="0.25" aria-label="whole job">' in part


def test_a_job_is_set_aside_and_tried_again(web) -> None:
    """The page of a waiting job can pause it, that of a paused one resume it, and that of a cancelled one retry it."""
    job = web.audit()
    for order, status in [("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")]:
        assert f"/ui/jobs/{job}/{order}" in web.client.get(f"/ui/jobs/{job}").text
        assert web.client.post(f"/ui/jobs/{job}/{order}").status_code == 303
        assert web.client.get(f"/jobs/{job}").json()["status"] == status
    answer = web.client.post(f"/ui/jobs/{job}/retry")
    assert web.client.get(answer.headers["Location"].removeprefix("/ui")).json()["retry_of"] == job


def test_a_finished_job_shows_its_result(web) -> None:
    """The page of a job that succeeded has the verdict and links to the report."""
    job = web.audit()
    web.run(job)
    web.succeed(job)
    page = web.client.get(f"/ui/jobs/{job}").text
    assert "Robust, worst class" in page
    for link in re.findall(rf'href="(/jobs/{job}/report[^"]*)"', page):
        assert web.client.get(link).is_success
    assert f"/jobs/{job}/report?format=html" in page


def test_epochs_are_drawn_as_they_come(web) -> None:
    """Each epoch is a row of the table, the newest first; lines appear from the second epoch on; a repeated epoch counts once."""
    model = web.model()
    job = web.client.post("/jobs/finetune", json=FINETUNE | {"model": model}).json()["id"]
    record, rates = web.run(job), {"validation_clean": 0.9, "validation_robust": 0.5}
    for number, worst in [(1, 0.2), (2, 0.3), (2, 0.25)]:
        epoch = {
            "epoch": number,
            "learning_rate": 0.1,
            "loss": 1.5,
            "validation_robust_worst": worst,
            "seconds": 2,
            **rates,
        }
        record(event=("epoch", {"stage": "epoch", "class_weights": [], **epoch}))
    course = web.client.get(f"/ui/jobs/{job}/course").text
    assert re.findall(r'<th scope="row">(\d)</th>', course) == ["2", "1"]
    assert '<polyline class="worst" points="0.0,160.0 640.0,150.0"/>' in course


def test_a_job_with_many_events_has_a_small_page(web) -> None:
    """The page of a job with 2,000 epochs and attacks shows the newest 100 of each, says so, and stays below 200 kB."""
    job = web.client.post("/jobs/finetune", json=FINETUNE | {"model": web.model()}).json()["id"]
    web.run(job)
    rates = {"validation_clean": 0.9, "validation_robust": 0.5, "validation_robust_worst": 0.2, "seconds": 2}
    with web.site.sessions.begin() as session:
        for number in range(1, 2001):
            epoch = {"epoch": number, "learning_rate": 0.1, "loss": 1.5, "class_weights": [], **rates}
            attack = {"stage": "attack", "name": "PGD-20", "tried": 9, "broken": 1, "seconds": 2}
            session.add(JobEvent(job_id=job, seq=100 + 2 * number, kind="epoch", body=epoch))
            session.add(JobEvent(job_id=job, seq=101 + 2 * number, kind="attack", body=attack))
    page = web.client.get(f"/ui/jobs/{job}")
    epochs = re.findall(r'<th scope="row">(\d+)</th>', page.text)
    assert (epochs[0], epochs[-1], len(epochs)) == ("2000", "1901", 100)
    assert page.text.count('<th scope="row">attack</th>') == 100
    assert page.text.count(f'The newest of 2,000. <a href="/jobs/{job}/events">') == 2
    assert len(page.content) < 200_000


def test_an_unchanged_job_is_not_drawn_again(web) -> None:
    """The changing part of a job's page carries the job's version; a request with that version gets 304 until a change."""
    job = web.audit()
    record = web.run(job)
    address = f"/ui/jobs/{job}/course"
    etag = web.client.get(address).headers["ETag"]
    same = web.client.get(address, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    record(stage="clean", total=90, done=40)
    update = web.client.get(address, headers={"If-None-Match": etag})
    assert update.status_code == 200
    assert "40 of 90 images" in update.text
    web.succeed(job)
    for _ in range(2):
        assert "ETag" not in web.client.get(address, headers={"If-None-Match": update.headers["ETag"]}).headers


def test_models_and_data_sets_are_uploaded_from_pages(web) -> None:
    """The upload forms accept the same fields as the API, without empty ones, and show the error of a refused form."""
    fields = {"architecture": "small_resnet", "num_classes": "10", "name": "", "mean": "", "std": "", "class_names": ""}
    answer = web.client.post("/ui/models", data=fields, files={"file": ("net.safetensors", weights())})
    assert answer.status_code == 303
    page = web.client.get(answer.headers["Location"]).text
    assert ">net<" in page
    assert "a worker is checking the file" in page
    refusal = web.client.post("/ui/models", data={"spec": SPEC.model_dump_json()}, files={"file": ("a.txt", b"text")})
    assert refusal.status_code == 415
    assert "neither safetensors" in refusal.text
    archive = {"file": ("signs.zip", b"PK\x03\x04")}
    assert web.client.post("/ui/datasets", data={"name": "my signs"}, files=archive).status_code == 303
    assert "my signs" in web.client.get("/ui/datasets").text
    assert web.client.post("/ui/datasets", files={"file": ("a.txt", b"text")}).status_code == 415


def test_the_state_of_a_new_model_changes_with_that_of_its_check(web) -> None:
    """The part of a model's page that is polled has the states of the model's jobs, too."""
    model = web.model()
    [check] = re.findall(r'href="/ui/jobs/(\w+)">Check of a model', web.client.get(f"/ui/models/{model}").text)
    polled = web.client.get(f"/ui/models/{model}/state").text
    assert f'<div id="state-{check}" hx-swap-oob="true"><span class="status succeeded">' in polled


def test_unknown_pages_are_told_on_a_page(web) -> None:
    """A person who follows a dead link gets a page with the status of the problem."""
    for address in (
        "/ui/jobs/job_0",
        "/ui/models/model_0",
        "/problems/nothing",
        "/ui/nothing",
        "/guide/nothing",
        "/nothing",
    ):
        page = web.client.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
        assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert '<a href="/ui/plans">The list of plans</a>' in web.client.get("/ui/plans/plan_0").text
    assert web.client.get("/ui/nothing").headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("/ui/jobs", "/"),
        ("/ui/comparisons", "/"),
        ("/ui/start/estimate", "/"),
        ("/ui/jobs/job_0/links", "/ui/jobs/job_0"),
        ("/ui/jobs/job_0/candidates/1", "/ui/jobs/job_0"),
        ("/ui/plans/plan_0/policy/remove", "/ui/plans/plan_0"),
        ("/ui/models/model_0/delete", "/ui/models/model_0"),
    ],
)
def test_the_address_of_a_form_leads_to_its_page(web, address, page) -> None:
    """A person who loads the address that a form was sent to gets the page above it."""
    answer = web.client.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, answer.headers["Location"]) == (303, page)


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("job-failed", ["The job failed", "409", "<h2>Cause</h2>", "<h2>Remedy</h2>", "<code>error</code>"]),
        ("out-of-memory", ["Out of memory", "Error of a job or an upload", "Use a smaller batch size"]),
        ("dataset-missing", ["409", "Upload the data set", "Error of a job or an upload", "Tell the operator"]),
    ],
)
def test_a_code_has_a_page_with_its_cause_and_remedy(web, code, texts) -> None:
    """The page of a code explains it as a response and as the error of a job, whichever applies."""
    page = web.client.get(f"/problems/{code}").text
    assert [text for text in texts if text not in page] == []


def test_the_vendored_script_is_served_with_its_licence(web) -> None:
    """The page's script, htmx, comes from this service, unchanged, with its licence."""
    script = web.client.get("/static/htmx.min.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert 'version:"2.0.11"' in script.text
    assert "Zero-Clause BSD" in web.client.get("/static/LICENSE-htmx.txt").text
    assert script.content == Path(api.__file__).with_name("pages").joinpath("static", "htmx.min.js").read_bytes()
