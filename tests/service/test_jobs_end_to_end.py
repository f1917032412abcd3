"""Jobs from upload to report, through a real web service, a real worker and real files."""

import io
import time

import httpx
import pytest
import torch

from faal_client import Client
from faal_core import weights
from faal_core.results.comparison_documents import ComparisonReport
from faal_core.results.outcomes import read_outcomes
from faal_core.results.reading import read_report
from jobs import control, model_registry
from jobs.states import JobState, UploadState
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, sample_outcomes
from tests.service.api.conftest import Web
from tests.service.processes import JOB_SECONDS, is_gone, servers_first, wait_until
from tests.service.small_jobs import (
    AUDIT,
    CLASSES,
    HALVES,
    LONGER_AUDIT,
    SPEC,
    UNBOUNDED,
    noise,
    store,
    submit_audit,
    submit_finetuning,
    timeless,
    untrained_weights,
)

QUICK = {
    "threat": {"epsilon": "0.1"},
    "training": {"learning_rates": [0.01], "batch_size": 256, "attack": {"steps": 1}, **UNBOUNDED},
    "method": {"class_offsets": False},
    "audit": {"attacks": [{"type": "pgd", "steps": 2}], "images": 100},
}


def wait_for_answer(client: httpx.Client, path: str) -> httpx.Response:
    """Return the answer that ends the polling, 202 being "not yet"."""
    deadline = time.monotonic() + JOB_SECONDS
    while (answer := client.get(path, headers={"Accept": "application/json"})).status_code == 202:
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return answer


def wait_for_check(client: httpx.Client, path: str) -> dict:
    """Wait for the check of the upload, and return it."""
    wait_until(lambda: client.get(path).json()["status"] != "validating", JOB_SECONDS)
    return client.get(path).json()


@servers_first
def test_upload_to_report(site, tmp_path):
    """A model is uploaded, checked, fine-tuned on the bundled data and reported on, and its successor can be downloaded."""
    _, client = site.api()
    site.worker()
    spec = SPEC.model_copy(update={"num_classes": 10})
    upload = untrained_weights(tmp_path / "mine.safetensors", spec)
    with upload.open("rb") as file:
        answer = client.post("/models", files={"file": ("mine.safetensors", file)}, data={"name": "mine"})
    assert answer.status_code == 202, answer.text
    model = wait_for_check(client, answer.headers["Location"])
    assert (model["status"], model["error"]) == ("ready", None)

    answer = client.post("/jobs/finetune", json={"model": model["id"], "dataset": "fashion-mnist-subset", **QUICK})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    answer = wait_for_answer(client, f"/jobs/{job['id']}/report")
    assert answer.status_code == 200, answer.text
    report = read_report(answer.text)
    assert (report.before.dataset.images, len(report.before.classes), len(report.epochs)) == (100, 10, 1)
    before, after = report.before.provenance, report.after.provenance
    assert (before.job_id, before.model_id, after.job_id, after.model_id) == (job["id"], model["id"], job["id"], None)
    assert before.torch == torch.__version__
    with Client(str(client.base_url)) as customer:
        for name, audited in (("before", report.before), ("after", report.after)):
            file = customer.download_outcomes(job["id"], tmp_path / name, audit=name)
            assert read_outcomes(file, audited).sha256 == audited.outcomes_sha256

    job = client.get(f"/jobs/{job['id']}").json()
    assert job["status"] == "succeeded"
    successor = client.get(f"/models/{job['result_model']}").json()
    assert (successor["status"], successor["parent_model"], successor["parent_job"]) == (
        "ready",
        model["id"],
        job["id"],
    )
    content = client.get(f"/models/{successor['id']}/weights").content
    download = tmp_path / "repaired.safetensors"
    download.write_bytes(content)
    assert weights.digest(weights.read_classifier(download)) == report.after.classifier.sha256
    kinds = [event["kind"] for event in client.get(f"/jobs/{job['id']}/events").json()["data"]]
    assert [kind for kind in kinds if kind in ("epoch", "attack")] == ["attack", "epoch", "attack"]


@pytest.mark.slow
def test_a_fine_tuning_that_keeps_the_original_makes_no_model(open_site, tmp_path):
    """Where the worst class stays at 0, the job succeeds without a model, and its report and events give the reason."""
    site = open_site()
    _, client = site.api()
    site.worker()
    upload = untrained_weights(tmp_path / "mine.safetensors", SPEC.model_copy(update={"num_classes": 10}))
    with upload.open("rb") as file:
        answer = client.post("/models", files={"file": ("mine.safetensors", file)})
    model = wait_for_check(client, answer.headers["Location"])["id"]
    bounded_spec = QUICK | {"training": QUICK["training"] | {"max_clean_drop": 0.01}}
    job = client.post("/jobs/finetune", json={"model": model, "dataset": "fashion-mnist-subset", **bounded_spec}).json()
    report = read_report(wait_for_answer(client, f"/jobs/{job['id']}/report").text)
    assert report.outcome == "kept-original"
    job = client.get(f"/jobs/{job['id']}").json()
    assert (job["status"], job["result_model"]) == ("succeeded", None)
    assert [one["id"] for one in client.get("/models").json()["data"]] == [model]
    kinds = [event["kind"] for event in client.get(f"/jobs/{job['id']}/events").json()["data"]]
    assert "reliability-warning" in kinds
    assert "Download" not in client.get(f"/ui/jobs/{job['id']}").text


def test_report_does_not_depend_on_the_installation(site, weights_file, faultless_report):
    """The same fine-tuning gives the same report on either database and broker, except for times."""
    site.worker()
    job_id = submit_finetuning(site, weights_file)
    site.queue.ring(job_id)
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED, site.tell()
    assert timeless(site.report(job_id)) == faultless_report


def test_uploaded_data_set(open_site, weights_file, tmp_path):
    """An uploaded data set is checked and can be audited under its owner's name for it, also by another model's gradients."""
    site = open_site()
    _, client = site.api()
    site.worker()
    answer = client.post("/datasets", files={"file": ("noise.npz", noise())}, data={"name": "my noise"})
    assert answer.status_code == 202, answer.text
    dataset = wait_for_check(client, answer.headers["Location"])
    assert dataset["status"] == "ready", dataset
    assert dataset["summary"] == {
        "shape": [1, 16, 16],
        "class_names": list(CLASSES),
        "images": {"train": 480, "test": 90},
        "groups": {"half": list(HALVES)},
        "training_groups": [],
    }
    other = weights.read_classifier(weights_file)
    other.backbone.requires_grad_(False).apply(lambda module: [one.neg_() for one in module.parameters(recurse=False)])
    weights.write_classifier(tmp_path / "other.safetensors", other)
    (model, _), (source, _) = store(site, weights_file), store(site, tmp_path / "other.safetensors")
    body = {"model": model, "dataset": dataset["id"], "transfer_from": [source], **AUDIT}
    job_id = client.post("/jobs/audit", json=body).raise_for_status().json()["id"]
    report = read_report(wait_for_answer(client, f"/jobs/{job_id}/report").text)
    assert report.dataset.name == "my noise"
    assert [attack.type for attack in report.spec.attacks] == ["pgd", "transfer", "transfer"]
    assert report.complete
    (table,) = report.groups
    assert (table.column, tuple(group.name for group in table.groups)) == ("half", HALVES)
    assert sum(group.images for group in table.groups) == report.dataset.images
    assert "groups by half" in client.get("/ui/datasets").text
    assert "Group by group" in client.get(f"/jobs/{job_id}/report", headers={"Accept": "text/html"}).text


def test_checkpoint_is_converted_and_forgotten(open_site, weights_file, tmp_path):
    """A checkpoint of torch.save becomes a file in the project's own format, and the uploaded one is not kept."""
    site, content = open_site(), io.BytesIO()
    torch.save(weights.read_classifier(weights_file).backbone.state_dict(), content)
    upload = site.storage.put([content.getvalue()], media_type="application/vnd.pytorch")
    with site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="mine", spec=SPEC, upload=upload, owner="local")
    site.worker()
    assert site.wait_until_ended(check.id).state is JobState.SUCCEEDED, site.tell()
    with site.sessions() as session:
        model = model_registry.find_model(session, model.id)
    classifier = weights.read_classifier(site.storage.path(model.sha256))
    assert weights.digest(classifier) == weights.digest(weights.read_classifier(weights_file))
    wait_until(lambda: not site.storage.path(upload.sha256).exists(), within_seconds=10)
    assert model.upload_sha256 is None


def test_hostile_upload_is_rejected(open_site):
    """An upload that contains no weights is rejected with the reason, for the job and for the model."""
    site = open_site()
    upload = site.storage.put([b"\x80\x04cos\nsystem\n"], media_type="application/vnd.pytorch")
    with site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="bad", spec=SPEC, upload=upload, owner="local")
    site.worker()
    job = site.wait_until_ended(check.id)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "weights-unreadable")
    with site.sessions() as session:
        model = model_registry.find_model(session, model.id)
    assert (model.state, model.error) == (UploadState.REJECTED, job.error)


def test_queued_job_is_cancelled_at_once(site, weights_file):
    """A waiting job is cancelled in the answer to the request, and a late message does not run it."""
    job_id = submit_audit(site, weights_file)
    _, client = site.api()
    assert client.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    site.queue.ring(job_id)
    worker = site.worker()
    wait_until(lambda: "no job waits" in worker.log.read_text(), within_seconds=60, tell=site.tell)
    assert (site.job(job_id).state, site.job(job_id).attempt) == (JobState.CANCELLED, 0)


@servers_first
def test_running_job_is_cancelled_soon(site, weights_file):
    """A running job ends as cancelled, with its process, and its worker takes the next one."""
    worker = site.worker()
    job_id = submit_finetuning(site, weights_file)
    site.wait_until_running(job_id, epochs=1)
    computing = worker.jobs
    with site.sessions.begin() as session:
        control.cancel(session, job_id)
    wait_until(lambda: site.job(job_id).state is JobState.CANCELLED, within_seconds=20, tell=site.tell)
    assert all(map(is_gone, computing))
    assert site.wait_until_ended(submit_audit(site, weights_file)).state is JobState.SUCCEEDED


def test_cancelled_audit_reports_what_it_had_found(open_site, weights_file, tmp_path):
    """An audit that is cancelled midway ends with a report that gives the number of images without a run."""
    site = open_site()
    _, client = site.api()
    site.worker()
    job_id = submit_audit(site, weights_file, **LONGER_AUDIT)
    site.queue.ring(job_id)
    wait_until(lambda: (site.job(job_id).stage or "").startswith("PGD") and site.job(job_id).done, 60, site.tell)
    assert client.get(f"/jobs/{job_id}").json()["progress"]["seconds_left"] > 0
    assert client.post(f"/jobs/{job_id}/cancel").json()["cancel_requested"]
    job = site.wait_until_ended(job_id)
    assert (job.state, job.error, job.seconds_left) == (JobState.CANCELLED, None, None)
    report = read_report(client.get(f"/jobs/{job_id}/report", headers={"Accept": "application/json"}).text)
    assert not report.complete
    assert report.attacks[0].tried >= report.attacks[0].untried > 0
    assert (report.provenance.job_id, report.provenance.model_id) == (job_id, job.model_id)
    with Client(str(client.base_url)) as customer:
        file = customer.download_outcomes(job_id, tmp_path / "outcomes.parquet")
    assert len(read_outcomes(file, report).rows) == report.dataset.images


def test_an_audit_ends_with_its_budget(open_site, weights_file):
    """An audit whose minutes are spent succeeds with its partial result, and reports how long it ran."""
    site = open_site()
    _, client = site.api()
    site.worker()
    model, dataset = store(site, weights_file)
    body = {"model": model, "dataset": dataset, "budget_minutes": 0.05, **LONGER_AUDIT}
    job_id = client.post("/jobs/audit", json=body).raise_for_status().json()["id"]
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
    assert 3 <= client.get(f"/jobs/{job_id}").json()["seconds_run"] < 60  # of 150 for all of it
    report = read_report(client.get(f"/jobs/{job_id}/report", headers={"Accept": "application/json"}).text)
    assert not report.complete
    assert report.attacks[0].tried >= report.attacks[0].untried > 0


def test_audits_are_compared(open_site, tmp_path):
    """A worker compares stored reports image by image, from the stored outcomes; the report is JSON and a page."""
    site = open_site()
    process, client = site.api()
    web, jobs = Web(site, process, client), []
    for robust in (ROBUST_BEFORE, ROBUST_AFTER):
        report, outcomes = sample_outcomes(robust=robust)
        outcomes.write(tmp_path / "outcomes.parquet", report)
        jobs.append(web.audit())
        web.run(jobs[-1])
        web.succeed(jobs[-1], report, audit=(tmp_path / "outcomes.parquet").read_bytes())
    site.worker()
    with Client(str(client.base_url)) as customer:
        comparison = customer.submit_comparison(jobs, metadata={"pull": "7"})
        result = customer.comparison(comparison.id, timeout=JOB_SECONDS)
    assert isinstance(result, ComparisonReport)
    assert (result.pairing, result.reason) == ("paired", None)
    assert next(row.verdict for row in result.robust.classes if row.name == "shirt") == "better"
    page = client.get(f"/jobs/{comparison.id}/report", params={"format": "html"})
    assert page.text.startswith("<!doctype html>")


def test_failing_job_tells_why(site, weights_file):
    """A job that cannot succeed fails in its first attempt, with the library's own code and message."""
    job_id = submit_audit(site, weights_file, threat={"norm": "l2", "epsilon": 17})
    site.worker()
    job = site.wait_until_ended(job_id)
    assert (job.state, job.attempt, job.error["code"]) == (JobState.FAILED, 1, "invalid-spec")
    assert "exceeds 16, the largest distance between two images of 1 × 16 × 16" in job.error["message"]


def test_two_workers_share_the_jobs(served_site, weights_file):
    """Two workers run four jobs, each of them once, and each worker runs at least one."""
    jobs = [submit_audit(served_site, weights_file) for _ in range(4)]
    for job_id in jobs:
        served_site.queue.ring(job_id)
    workers = [served_site.worker(), served_site.worker()]
    assert [(served_site.wait_until_ended(job_id).state, served_site.job(job_id).attempt) for job_id in jobs] == [
        (JobState.SUCCEEDED, 1)
    ] * 4
    counts = [worker.log.read_text().count("begins (audit") for worker in workers]
    assert sum(counts) == 4
    assert min(counts) >= 1


@pytest.mark.parametrize("broker", ["folder", pytest.param("redis", marks=pytest.mark.slow)])
def test_a_worker_of_a_pool_hears_its_jobs(request, open_site, weights_file, broker):
    """A job that names a pool is sent to the workers of that pool, without a sweep, and no other worker takes it."""
    url = {} if broker == "folder" else {"broker_url": request.getfixturevalue("redis_url")}
    common = open_site(pools="large,small", sweep_seconds=600, lease_seconds=600, **url)
    _, client = common.api()
    model, dataset = store(common, weights_file)
    body = {
        "model": model,
        "dataset": dataset,
        "threat": {"epsilon": "8/255"},
        "attacks": [{"type": "pgd", "steps": 2}],
    }
    common.worker()
    open_site(pool="large", sweep_seconds=600, lease_seconds=600, **url).worker()
    time.sleep(3)  # both have swept and listen
    ids = {
        pool: client.post("/jobs/audit", json=body | {"pool": pool}).json()["id"] for pool in ("large", "small", None)
    }
    for pool in ("large", None):
        assert common.wait_until_ended(ids[pool]).state is JobState.SUCCEEDED
    assert common.job(ids["small"]).state is JobState.QUEUED
    assert common.job(ids["large"]).attempt == 1


def test_missing_device_fails_the_job(open_site, weights_file):
    """A worker whose configured device is missing fails the job, and keeps running."""
    site = open_site(device="cuda:9")
    job_id = submit_audit(site, weights_file)
    worker = site.worker()
    assert site.wait_until_ended(job_id).state is JobState.FAILED
    assert worker.running
