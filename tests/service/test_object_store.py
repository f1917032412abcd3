"""Machines that share only PostgreSQL, Redis and an object store."""

import hashlib
from pathlib import Path

import httpx

from faal_client import Client
from jobs.states import JobState
from tests.service.processes import JOB_SECONDS, is_gone, wait_until
from tests.service.small_jobs import EPOCHS, FINETUNING, SPEC, noise, store, submit_audit, timeless


def wait_until_ready(client: httpx.Client, answer: httpx.Response) -> str:
    """Wait for the check of the upload, and return its id."""
    assert answer.status_code == 202, answer.text
    location = answer.headers["Location"]
    wait_until(lambda: client.get(location).json()["status"] != "validating", JOB_SECONDS)
    assert client.get(location).json()["status"] == "ready", client.get(location).text
    return str(answer.json()["id"])


def test_another_machine_goes_on(servers, open_site, weights_file: Path, faultless_report, tmp_path: Path):
    """One machine takes the upload, a second checks and trains and is lost midway, and a third resumes the job.

    The third computes only the remaining epochs and reports the same as without the loss. The first serves the fine-tuned
    weights, whole and in part. No machine keeps files, and the files that were stored for the job are deleted at its end.
    """
    web, first, second = (
        open_site(data_dir=tmp_path / name, checkpoint_seconds=0, **servers) for name in ("web", "first", "second")
    )
    _, client = web.api()
    worker = first.worker()
    fields = {"name": "shapes", "spec": SPEC.model_dump_json()}
    model = wait_until_ready(client, client.post("/models", files={"file": weights_file.read_bytes()}, data=fields))
    dataset = wait_until_ready(client, client.post("/datasets", files={"file": noise()}, data={"name": "noise"}))
    finetuning = client.post("/jobs/finetune", json={"model": model, "dataset": dataset, **FINETUNING}).json()["id"]
    web.wait_until_running(finetuning, epochs=1)
    wait_until(lambda: "training.pt" in (web.job(finetuning).checkpoint or {}), within_seconds=20, tell=web.tell)
    computing = worker.jobs
    worker.kill()
    wait_until(lambda: all(map(is_gone, computing)), within_seconds=5)

    second.worker()
    job = web.wait_until_ended(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1), web.tell()
    assert timeless(web.report(finetuning)) == faultless_report
    second_begun = web.events(finetuning, "running")[1].seq
    assert 0 < sum(event.seq > second_begun for event in web.events(finetuning, "epoch")) < EPOCHS
    assert [event.body["epoch"] for event in web.events(finetuning, "epoch")] == list(range(1, EPOCHS + 1))

    new_model = client.get(f"/jobs/{finetuning}").json()["result_model"]
    whole = client.get(f"/models/{new_model}/weights").content
    assert hashlib.sha256(whole).hexdigest() == client.get(f"/models/{new_model}").json()["file_sha256"]
    part = client.get(f"/models/{new_model}/weights", headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, whole[100:])
    wait_until(lambda: web.storage.list_jobs() == [], within_seconds=10, tell=web.tell)
    assert [site for site in (web, first, second) if site.settings.files_dir.exists()] == []


def test_job_whose_store_fails_is_given_back(open_site, object_store, weights_file: Path):
    """A job goes back to the queue when the object store fails, and waits; this is no crash, and its worker keeps running."""
    site = open_site(store_url=object_store.new_url(), max_attempts=1)
    audit = submit_audit(site, weights_file)
    object_store.remove(site.settings.store_url)
    worker = site.worker()
    wait_until(lambda: site.job(audit).outages == 1, 60, site.tell)
    job = site.job(audit)
    assert (job.state, job.crashes, job.not_before is not None) == (JobState.QUEUED, 0, True)
    assert [event.body["reason"] for event in site.events(audit, "queued") if "reason" in event.body] == [
        "store-unavailable"
    ]
    assert worker.running
    assert "Traceback" not in worker.log.read_text()


def test_weights_come_from_the_store_itself(servers, open_site, weights_file: Path, tmp_path: Path):
    """A site can serve weights, whole or in part, by a link to the store that expires after five minutes."""
    site = open_site(store_links=True, **servers)
    model, _ = store(site, weights_file)
    _, client = site.api()
    answer = client.get(f"/models/{model}/weights")
    link = httpx.URL(answer.headers["Location"])
    assert (answer.status_code, answer.content, answer.headers["Cache-Control"]) == (307, b"", "no-store")
    assert (link.params["X-Amz-Expires"], len(link.params["X-Amz-Signature"])) == ("300", 64)
    whole = weights_file.read_bytes()
    assert httpx.get(link).content == whole
    part = httpx.get(link, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    with Client(str(client.base_url)) as api_client:
        assert api_client.download_weights(model, tmp_path / "weights").read_bytes() == whole
