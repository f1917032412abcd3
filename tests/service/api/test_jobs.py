"""Jobs over HTTP: submit, follow, list, cancel, pause and retry."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs import dataset_registry, lifecycle
from jobs.settings import FOLDER_BROKER
from tests.service.api.conftest import AUDIT, FINETUNE


def test_a_job_is_stored_before_it_is_answered(web) -> None:
    """The answer is 202 with the address of the job and every default filled in, and the workers were notified."""
    model = web.model()
    answer = web.client.post("/jobs/finetune", json=FINETUNE | {"model": model, "metadata": {"ticket": "ML-1204"}})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["status"], job["model"]) == ("finetune", "queued", model)
    assert job["metadata"] == {"ticket": "ML-1204"}
    weights = {"dro_radius": 0.2, "divergence": "kl-u-p", "objective": "class-risk", "class_offsets": True}
    cells = {"groups": None, "min_cell_images": 100}
    assert job["spec"]["method"] == {"type": "faal", "loss": "at", "beta": 6.0, **weights, **cells}
    assert job["spec"]["threat"]["epsilon"] == pytest.approx(8 / 255)
    assert web.client.get(answer.headers["Location"]).json() == job
    folder = Path(web.site.settings.broker_url.removeprefix(FOLDER_BROKER))
    assert any(job["id"] in message.read_text() for message in folder.glob("*.message"))


@pytest.mark.parametrize(
    ("path", "change", "pointers"),
    [
        ("/jobs/finetune", {"threat": {"epsilon": "8/0"}}, ["/threat/epsilon"]),
        ("/jobs/finetune", {"threat": {"norm": "linf"}}, ["/threat/epsilon"]),
        ("/jobs/finetune", {"training": {"attack": {"steps": 0}}}, ["/training/attack/steps"]),
        ("/jobs/finetune", {"audit": {"attacks": "nonsense"}}, ["/audit/attacks"]),
        ("/jobs/finetune", {"method": {"type": "trades"}}, ["/method"]),
        ("/jobs/finetune", {"metadata": {"a": "x" * 513}}, ["/metadata/a"]),
        ("/jobs/finetune", {"metadata": {str(i): "" for i in range(17)}}, ["/metadata"]),
        ("/jobs/finetune", {"metadata": {"a": "\x00", "a b": ""}}, ["/metadata/a", "/metadata/a b"]),
        ("/jobs/finetune", {"dataset": None}, ["/dataset"]),
        ("/jobs/audit", {"attacks": [{"type": "pgd"}, {"type": "pgd", "steps": 10**9}]}, ["/attacks/1/steps"]),
        ("/jobs/audit", {"attacks": [{"steps": 5}]}, ["/attacks/0"]),
        ("/jobs/audit", {"colour": "red"}, ["/colour"]),
        ("/jobs/audit", {"confidence": 2, "seed": "x"}, ["/confidence", "/seed"]),
    ],
)
def test_wrong_fields_are_pointed_to(web, problem, path, change, pointers) -> None:
    """A field that is out of bounds, missing or unknown is answered with 422 and a JSON pointer to each."""
    body = {"model": "model_1"} | (AUDIT if path == "/jobs/audit" else FINETUNE) | change
    answer = problem(web.client.post(path, json=body))
    assert (answer["status"], answer["code"]) == (422, "invalid-request")
    assert sorted(error["pointer"] for error in answer["errors"]) == sorted(pointers)


def test_jobs_need_what_is_ready(web, problem, weights_file) -> None:
    """A job needs a ready model: one being checked gives 409, an unknown one 404, and an unknown data set 404 or 422."""
    with weights_file.open("rb") as file:
        model = web.client.post("/models", files={"file": file}).json()["id"]
    with web.site.sessions.begin() as session:
        file = web.site.storage.put([b"x"], media_type="application/zip")
        dataset, _ = dataset_registry.register_upload(session, name="x", upload=file, owner="local")
    ready = web.model()
    problems = {
        "model-not-ready": {"model": model},
        "model-not-found": {"model": "model_0"},
        "dataset-not-ready": {"model": ready, "dataset": dataset.id},
        "dataset-not-found": {"model": ready, "dataset": "dataset_0"},
        "unknown-name": {"model": ready, "dataset": "imagenet"},
    }
    for (code, body), status in zip(problems.items(), (409, 404, 409, 404, 422), strict=True):
        answer = problem(web.client.post("/jobs/audit", json=AUDIT | body))
        assert (answer["code"], answer["status"]) == (code, status)


def test_model_and_data_must_fit(web, problem) -> None:
    """A data set with other classes than the model's is refused at once, and no job is stored."""
    model = web.model()
    answer = problem(web.client.post("/jobs/audit", json=AUDIT | {"model": model, "dataset": "cifar100"}))
    assert (answer["status"], answer["code"]) == (422, "invalid-spec")
    assert "10 classes" in answer["detail"]
    kinds = [job["kind"] for job in web.client.get("/jobs", params={"model": model}).json()["data"]]
    assert kinds == ["check-model"]


def test_a_data_set_without_files_is_refused_and_shown_as_such(own_web, problem) -> None:
    """A data set that the catalog lists as unavailable is refused, also by an estimate, until its files exist."""
    model = own_web.model()

    def is_listed() -> bool:
        datasets = own_web.client.get("/catalog").json()["datasets"]
        return next(entry["available"] for entry in datasets if entry["name"] == "mnist")

    job_body = AUDIT | {"model": model, "dataset": "mnist"}
    for path, body in (("/jobs/audit", job_body), ("/jobs/estimate", job_body | {"kind": "audit"})):
        answer = problem(own_web.client.post(path, json=body))
        assert (answer["status"], answer["code"]) == (409, "dataset-missing")
        assert "FAAL_DATASET_ROOT" in answer["detail"]
    assert [job["kind"] for job in own_web.client.get("/jobs").json()["data"]] == ["check-model"]
    form = own_web.client.get("/").text
    assert '<option value="mnist" disabled>MNIST (no files here)</option>' in form
    assert not is_listed()
    raw = own_web.site.settings.dataset_root / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").touch()
    assert is_listed()
    assert own_web.client.post("/jobs/audit", json=job_body).status_code == 202
    assert '<option value="mnist">MNIST</option>' in own_web.client.get("/").text


def test_an_idempotency_key_makes_one_job(web, problem) -> None:
    """Requests with one key, eight at once and one later, get the same job; another payload gets 422."""
    body, headers = AUDIT | {"model": web.model()}, {"Idempotency-Key": f"key of {web.site.settings.database_url}"}

    def submit(_: int) -> str:
        answer = web.client.post("/jobs/audit", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(submit, range(8)), submit(9)}) == 1
    answer = problem(web.client.post("/jobs/audit", json=body | {"seed": 1}, headers=headers))
    assert (answer["status"], answer["code"]) == (422, "idempotency-conflict")
    too_long = problem(web.client.post("/jobs/audit", json=body, headers={"Idempotency-Key": "k" * 256}))
    assert too_long["errors"][0]["parameter"].lower() == "idempotency-key"


def test_lists_stay_put_while_jobs_are_added(web) -> None:
    """Pages of two jobs list every job of a model once, newest first, although new ones are submitted in between."""
    model = web.model()
    jobs, ids, after = [web.audit(model) for _ in range(5)], [], {}
    while True:
        page = web.client.get("/jobs", params={"limit": 2, "model": model, "kind": "audit"} | after).json()
        ids += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
        web.audit(model)
    assert ids == jobs[::-1]


def test_lists_are_filtered(web) -> None:
    """Status, kind and metadata each narrow the list, and all of them together."""
    model = web.model()
    first, second = web.audit(model, metadata={"team": "a", "run.1": '":%'}), web.audit(model, metadata={"team": "b"})
    web.run(second)

    def list_jobs(**filters) -> set[str]:
        return {job["id"] for job in web.client.get("/jobs", params={"model": model} | filters).json()["data"]}

    assert list_jobs(status="running") == {second}
    assert list_jobs(metadata="team:a") == {first}
    assert list_jobs(metadata=["team:a", 'run.1:":%']) == {first}
    assert list_jobs(metadata=["team:a", "run.1:2"]) == set()
    assert list_jobs(kind="audit", status="queued") == {first}
    assert len(list_jobs(kind="check-model")) == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("status=x", "status"),
        ("after=%00", "after"),
        ("model=%00", "model"),
        ("metadata=x", "metadata"),
        ('metadata=":x', "metadata"),
    ],
)
def test_wrong_parameters_are_named(web, problem, query, parameter) -> None:
    """A query that cannot be answered is refused with 422 and the parameter's name."""
    answer = problem(web.client.get(f"/jobs?{query}"))
    assert (answer["status"], answer["errors"][0]["parameter"]) == (422, parameter)


def test_only_changes_are_sent(web) -> None:
    """The answer about an unchanged job is 304 for a client that has its version, and 200 after the next change."""
    job = f"/jobs/{web.audit()}"
    etag = web.client.get(job).headers["ETag"]
    assert etag.startswith('W/"')
    again = web.client.get(job, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    web.run(job.rsplit("/", 1)[1])(stage="clean", total=10, seconds_left=90)
    answer = web.client.get(job, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert (answer.json()["stage"], answer.json()["progress"]) == (
        "clean",
        {"done": 0, "total": 10, "seconds_left": 90},
    )


def test_cancelling(web, problem) -> None:
    """A queued job is cancelled at once, a running one is asked to stop, and a finished one cannot be cancelled."""
    waiting = web.audit()
    answer = web.client.post(f"/jobs/{waiting}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    running = web.audit()
    web.run(running)
    job = web.client.post(f"/jobs/{running}/cancel").json()
    assert (job["status"], job["cancel_requested"]) == ("running", True)
    with web.site.sessions.begin() as session:
        lifecycle.fail(session, running, 1, code="internal-error", message="x")
    refusal = problem(web.client.post(f"/jobs/{running}/cancel"))
    assert (refusal["status"], refusal["code"]) == (409, "job-state-conflict")
    assert problem(web.client.post("/jobs/job_0/cancel"))["code"] == "job-not-found"


def test_pausing(web, problem) -> None:
    """A queued job is paused at once and queued again, a running one is asked to stop, and a finished one cannot be paused."""
    job = web.audit()
    assert web.client.post(f"/jobs/{job}/pause").json()["status"] == "paused"
    assert [row["id"] for row in web.client.get("/jobs", params={"status": "paused"}).json()["data"]] == [job]
    assert web.client.get(f"/jobs/{job}/report").status_code == 202
    assert web.client.post(f"/jobs/{job}/resume").json()["status"] == "queued"
    web.run(job)
    assert web.client.post(f"/jobs/{job}/pause").json()["pause_requested"] is True
    assert web.client.post(f"/jobs/{job}/resume").json()["pause_requested"] is False
    with web.site.sessions.begin() as session:
        lifecycle.fail(session, job, 1, code="internal-error", message="x")
    for order in ("pause", "resume"):
        assert problem(web.client.post(f"/jobs/{job}/{order}"))["code"] == "job-state-conflict"


def test_trying_again(web, problem) -> None:
    """A cancelled job can be retried as a new job, once for an idempotency key; a waiting job cannot."""
    job = web.audit()
    assert problem(web.client.post(f"/jobs/{job}/retry"))["code"] == "job-state-conflict"
    cancelled = web.client.post(f"/jobs/{job}/cancel").json()
    assert cancelled["status"] == "cancelled", cancelled
    answers = [web.client.post(f"/jobs/{job}/retry", headers={"Idempotency-Key": "again"}) for _ in "12"]
    new = answers[0].json()
    assert answers[0].status_code == 202, answers[0].text
    assert answers[0].headers["Location"] == f"/jobs/{new['id']}"
    assert (new["status"], new["retry_of"], answers[1].json()["id"]) == ("queued", job, new["id"])


def test_priorities_are_kept(web) -> None:
    """A job has the requested priority, and a priority out of bounds is refused."""
    body = AUDIT | {"model": web.model(), "dataset": "fashion-mnist-subset"}
    assert web.client.post("/jobs/audit", json=body | {"priority": 7}).json()["priority"] == 7
    assert web.client.post("/jobs/audit", json=body | {"priority": 11}).status_code == 422


def test_deleting(web, problem) -> None:
    """An ended job can be deleted, with its report; a model can be deleted only when no active job needs it."""
    model = web.model()
    job = web.client.post("/jobs/audit", json=AUDIT | {"model": model, "dataset": "fashion-mnist-subset"}).json()["id"]
    assert problem(web.client.delete(f"/jobs/{job}"))["code"] == "job-state-conflict"
    assert problem(web.client.delete(f"/models/{model}"))["code"] == "in-use"
    web.run(job)
    web.succeed(job)
    assert web.client.delete(f"/models/{model}").json()["status"] == "deleted"
    assert problem(web.client.get(f"/models/{model}/weights"))["code"] == "model-not-ready"
    assert web.client.get(f"/ui/models/{model}").status_code == 200
    assert web.client.get(f"/jobs/{job}/report").status_code == 200
    assert web.client.delete(f"/jobs/{job}").status_code == 204
    for address in (f"/jobs/{job}", f"/jobs/{job}/report", f"/jobs/{job}/events"):
        assert problem(web.client.get(address))["code"] == "job-not-found"


def test_a_pool_must_be_one_of_the_sites(own_web):
    """A job is refused if it names a pool that the site does not configure, or a time above the maximum."""
    body = AUDIT | {"model": own_web.model()}
    refusal = own_web.client.post("/jobs/audit", json=body | {"pool": "h100"})
    assert (refusal.status_code, refusal.json()["errors"][0]["pointer"]) == (422, "/pool")
    assert "none" in refusal.json()["detail"]
    far = own_web.client.post("/jobs/audit", json=body | {"deadline": "9999-12-31T23:59:59-12:00"})
    assert (far.status_code, far.json()["errors"][0]["pointer"]) == (422, "/deadline")


def test_an_estimate_goes_by_the_last_report(web) -> None:
    """An estimate gives passes, and also minutes as soon as the model, or a similar one, was audited."""
    model = web.model()
    body = {"kind": "audit", "model": model, **AUDIT}
    web.run(job := web.audit(model))
    web.succeed(job)
    audit = web.client.post("/jobs/estimate", json=body).raise_for_status().json()
    assert audit["measured_by"] == job
    assert 0 < audit["minutes"] <= audit["minutes_at_most"]
    assert audit["passes"] == 3000 * (1 + 2 * 10 + 1)
    repair = web.client.post("/jobs/estimate", json={"kind": "finetune", "model": model, **FINETUNE}).json()
    assert repair["passes"] > 2 * audit["passes"]
    other = web.client.post("/jobs/estimate", json=body | {"model": web.model()}).json()
    assert other["measured_by"] is not None
    missing = web.client.post("/jobs/estimate", json=body | {"model": "model_none"})
    assert (missing.status_code, missing.json()["code"]) == (404, "model-not-found")
