"""Machines that share nothing but PostgreSQL, Redis and an object store."""

import hashlib
from pathlib import Path

import httpx

from api.client import Client
from jobs.states import JobState
from tests.service.processes import JOB_SECONDS, is_gone, until
from tests.service.small_jobs import EPOCHS, FINETUNING, SPEC, noise, store, submit_audit, timeless


def wait_until_ready(client: httpx.Client, answer: httpx.Response) -> str:
    """Wait for the check of what was uploaded, and return its id."""
    assert answer.status_code == 202, answer.text
    at = answer.headers["Location"]
    until(lambda: client.get(at).json()["status"] != "validating", JOB_SECONDS)
    assert client.get(at).json()["status"] == "ready", client.get(at).text
    return str(answer.json()["id"])


def test_another_machine_goes_on(servers, open_site, weights_file: Path, undisturbed, tmp_path: Path):
    """Files come in through one machine, are checked and trained on by a second, which is lost midway, and a third goes on.

    It computes only the epochs that were left and reports what would have been without the loss; the repaired weights come
    out whole, and in part, through the first. No machine keeps files, and what was stored for the job goes with its end.
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
    until(lambda: "training.pt" in (web.job(finetuning).checkpoint or {}), within_seconds=20, tell=web.tell)
    computing = worker.children
    worker.kill()
    until(lambda: all(map(is_gone, computing)), within_seconds=5)

    second.worker()
    job = web.wait_until_ended(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1), web.tell()
    assert timeless(web.report(finetuning)) == undisturbed
    second_begun = web.events(finetuning, "running")[1].seq
    assert 0 < sum(event.seq > second_begun for event in web.events(finetuning, "epoch")) < EPOCHS
    assert [event.body["epoch"] for event in web.events(finetuning, "epoch")] == list(range(1, EPOCHS + 1))

    repaired = client.get(f"/jobs/{finetuning}").json()["result_model"]
    whole = client.get(f"/models/{repaired}/weights").content
    assert hashlib.sha256(whole).hexdigest() == client.get(f"/models/{repaired}").json()["file_sha256"]
    part = client.get(f"/models/{repaired}/weights", headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, whole[100:])
    until(lambda: web.storage.list_jobs() == [], within_seconds=10, tell=web.tell)
    assert [site for site in (web, first, second) if site.settings.files_dir.exists()] == []


def test_job_whose_store_fails_is_given_back(open_site, object_store, weights_file: Path):
    """A job is given back when the object store fails, and pauses; that is no crash, and its worker lives on."""
    site = open_site(store_url=object_store.new_url(), max_attempts=1)
    audit = submit_audit(site, weights_file)
    object_store.remove(site.settings.store_url)
    worker = site.worker()
    until(lambda: site.job(audit).outages == 1, 60, site.tell)
    job = site.job(audit)
    assert (job.state, job.crashes, job.not_before is not None) == (JobState.QUEUED, 0, True)
    assert [event.body["reason"] for event in site.events(audit, "queued") if "reason" in event.body] == [
        "store-unavailable"
    ]
    assert worker.running
    assert "Traceback" not in worker.log.read_text()


def test_weights_come_from_the_store_itself(servers, open_site, weights_file: Path, tmp_path: Path):
    """Where the site says so, weights are fetched under a link that is signed for five minutes, whole or in part, checked."""
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
    with Client(str(client.base_url)) as ours:
        assert ours.download_weights(model, tmp_path / "weights").read_bytes() == whole
