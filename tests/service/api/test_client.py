"""The Python client against a service with a worker: from an upload of weights to a download of fine-tuned weights."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import pytest

from faal_client import (
    AsyncClient,
    Client,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    ServiceProblem,
    UploadRejected,
)
from faal_core import weights
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSpec, FinetuneSpec
from tests.service.processes import Site, servers_first, wait_until
from tests.service.small_jobs import CLASSES, HALVES, SPEC, UNBOUNDED, noise
from tests.webhook_receiver import run_receiver

AUDIT = {"attacks": [{"type": "pgd", "steps": 2}], "images": 30}
THREAT = {"threat": {"epsilon": "8/255"}}
TRAINING = {"learning_rates": [0.01, 0.001], "batch_size": 64, "attack": {"steps": 2}, **UNBOUNDED}
REPAIR = FinetuneSpec.model_validate(THREAT | {"training": TRAINING, "audit": AUDIT})


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    """Yield a client of a service with a worker."""
    with ExitStack() as stack:
        _, http = site.api()
        stack.callback(http.close)
        site.worker()
        yield stack.enter_context(Client(str(http.base_url)))


@servers_first
def test_from_weights_to_repaired_weights(client, site, weights_file, tmp_path) -> None:
    """Uploads become ready, a fine-tuning streams its events and reports, and its weights are a model that can be audited."""
    archive = tmp_path / "noise.npz"
    archive.write_bytes(noise())
    model = client.wait_until_ready(client.upload_model(weights_file, name="shapes"), timeout=120)
    dataset = client.wait_until_ready(client.upload_dataset(archive), timeout=120)
    assert (model.spec.model_dump(), dataset.name) == (SPEC.model_dump(), "noise")
    parts, groups = {"test": 90, "train": 480}, {"half": list(HALVES)}
    holds = {
        "shape": [1, 16, 16],
        "class_names": list(CLASSES),
        "images": parts,
        "groups": groups,
        "training_groups": [],
    }
    assert dataset.summary == holds

    options = {"metadata": {"ticket": "7"}, "idempotency_key": "once"}
    job = client.submit_finetune(model.id, dataset.id, REPAIR, **options)
    assert client.submit_finetune(model.id, dataset.id, REPAIR, **options).id == job.id
    kinds, received_events = [], []
    listener = threading.Thread(target=lambda: kinds.extend(event.kind for event in client.events(job.id)))
    listener.start()
    report = client.report(job.id, timeout=240, progress=received_events.append)
    listener.join(30)
    assert isinstance(report, FinetuneReport)
    assert read_report(site.report(job.id) or "") == report
    assert (kinds[0], kinds[-1], kinds.count("epoch")) == ("queued", "succeeded", 2)
    assert received_events
    assert client.report_page(job.id).startswith("<!doctype html>")

    successor = client.job(job.id).result_model
    assert successor is not None
    file = client.download_weights(successor, tmp_path / "repaired.safetensors")
    assert weights.digest(weights.read_classifier(file)) == report.after.classifier.sha256
    audit = client.submit_audit(successor, dataset.id, AuditSpec.model_validate(THREAT | AUDIT))
    again = client.report(audit.id, timeout=120)
    assert isinstance(again, AuditReport)
    assert again.robust == report.after.robust


def test_refusals_and_rejections_are_told_apart(client, tmp_path, weights_file) -> None:
    """A refusal by the service raises ServiceProblem with its code; a failed check raises UploadRejected with the reason."""
    text = tmp_path / "net.safetensors"
    text.write_text("no weights at all")
    with pytest.raises(ServiceProblem, match="neither safetensors") as problem:
        client.upload_model(text, spec=SPEC)
    assert problem.value.problem.code == "unsupported-file"
    other = SPEC.model_copy(update={"arguments": {"width": 16}})
    with pytest.raises(UploadRejected, match=re.compile("width", re.IGNORECASE)):
        client.wait_until_ready(client.upload_model(weights_file, spec=other), timeout=120)


def test_waiting_ends(web, weights_file) -> None:
    """Waiting ends after the given time, and at once when the job was cancelled."""
    job = web.audit()
    with Client(str(web.client.base_url)) as client:
        with pytest.raises(TimeoutError):
            client.wait_until_ready(client.upload_model(weights_file), timeout=0.1)
        with pytest.raises(TimeoutError):
            client.report(job, timeout=0.1)
        assert client.cancel(job).status == "cancelled"
        assert [event.kind for event in client.events(job)] == ["queued", "cancelled"]
        assert list(client.events(job, after=10_000)) == []
        with pytest.raises(ServiceProblem) as cancellation:
            client.report(job)
        assert cancellation.value.problem.code == "job-cancelled"


def test_lists_are_read_page_by_page(web) -> None:
    """Lists yield all items that match the filters, newest first; pages can be read one by one."""
    model = web.model("paged")
    jobs = [web.audit(model, metadata={"nr": str(number)}) for number in range(5)]
    with Client(str(web.client.base_url)) as client:
        listed = client.list_jobs(model=model, kind="audit", page_size=2)
        assert [job.id for job in listed] == jobs[::-1]
        assert [len(page.data) for page in listed.pages()] == [2, 2, 1]
        assert [job.id for job in listed.page(after=jobs[1]).data] == [jobs[0]]
        client.cancel(jobs[3])
        assert [job.id for job in client.list_jobs(model=model, status="cancelled")] == [jobs[3]]
        assert [job.id for job in client.list_jobs(model=model, kind="audit", metadata={"nr": "2"})] == [jobs[2]]
        assert client.model(model) in list(client.list_models())
        assert [one.id for one in client.list_lineage(model)] == [model]
        assert [one.id for one in client.list_datasets() if one.id == model] == []
        for job in jobs:
            if client.job(job).status != "cancelled":
                client.cancel(job)
            client.delete_job(job)
        assert list(client.list_jobs(model=model, kind="audit")) == []


def test_catalog_estimates_and_specs_as_json(web) -> None:
    """A spec can be JSON; an estimate checks it as a submission does. Errors have classes."""
    model, spec = web.model(), {"threat": {"epsilon": "8/255"}, "attacks": "fast"}
    with Client(str(web.client.base_url)) as client:
        catalog = client.catalog()
        assert "fashion-mnist-subset" in [dataset.name for dataset in catalog.datasets]
        assert client.estimate_audit(model, "fashion-mnist-subset", spec).passes > 0
        assert client.estimate_finetune(model, "fashion-mnist-subset", REPAIR, budget_minutes=5).passes > 0
        job = client.submit_audit(model, "fashion-mnist-subset", spec, metadata={"ticket": "1"}, idempotency_key="json")
        assert (job.spec["attacks"][0]["type"], job.metadata) == ("apgd", {"ticket": "1"})
        assert client.cancel(job.id).id == job.id
        assert client.wait(job.id).status == "cancelled"
        again = client.retry(job.id, idempotency_key="client-again")
        assert (again.retry_of, client.retry(job.id, idempotency_key="client-again").id) == (job.id, again.id)
        client.cancel(again.id)
        with pytest.raises(InvalidRequest) as wrong:
            client.estimate_audit(model, "fashion-mnist-subset", {**spec, "attacks": "none"})
        assert wrong.value.problem.errors
        with pytest.raises(NotFound):
            client.dataset("dataset_0")
        with pytest.raises(Conflict):
            client.resume(job.id)


def test_webhooks_are_managed(web) -> None:
    """A webhook is registered, pinged, listed with its messages, and deleted."""
    with run_receiver() as there, Client(str(web.client.base_url)) as client:
        webhook = client.create_webhook(there.url)
        assert webhook.secret.startswith("whsec_")
        assert webhook.resource in list(client.list_webhooks())
        ping = client.ping_webhook(webhook.resource.id)
        messages = client.list_webhook_messages(webhook.resource.id)
        wait_until(lambda: [one.status for one in messages] == ["delivered"], 15, web.site.tell)
        assert [one.id for one in messages] == [ping.id]
        client.delete_webhook(webhook.resource.id)
        with pytest.raises(NotFound):
            list(messages)


def test_keys_are_managed(own_web) -> None:
    """An administrator creates, lists and revokes keys; the scope of a key bounds its requests."""
    admin = own_web.key("root", "admin")["Authorization"].removeprefix("Bearer ")
    with Client(str(own_web.client.base_url), key=admin) as client:
        key = client.create_key("ann", "nightly", scopes=["read"], days=1)
        assert (key.resource.owner, key.resource.scopes) == ("ann", ["read"])
        assert key.resource in list(client.list_keys())
        with Client(str(own_web.client.base_url), key=key.key) as reader:
            assert list(reader.list_jobs()) == []
            with pytest.raises(Forbidden):
                reader.create_webhook("https://example.com/")
            assert client.revoke_key(key.resource.id).revoked_at is not None
            with pytest.raises(ServiceProblem) as refused:
                reader.catalog()
        assert refused.value.code == "key-refused"


def test_asynchronous_client(web, weights_file, tmp_path) -> None:
    """The client for asynchronous code uploads, lists, waits and streams like the other one."""

    async def work() -> None:
        async with AsyncClient(str(web.client.base_url)) as client:
            upload = await client.upload_model(weights_file, name="async")
            with pytest.raises(TimeoutError):
                await client.wait_until_ready(upload, timeout=0.1)
            model = web.model()
            job = await client.submit_audit(model, "fashion-mnist-subset", {"threat": {"epsilon": "8/255"}})
            assert [one.id async for one in client.list_jobs(model=model, kind="audit")] == [job.id]
            states: list[str] = []
            with pytest.raises(TimeoutError):
                await client.report(job.id, timeout=0.1, progress=lambda pending: states.append(pending.status))
            assert states[0] == "queued"
            assert (await client.cancel(job.id)).status == "cancelled"
            assert [event.kind async for event in client.events(job.id)] == ["queued", "cancelled"]
            with pytest.raises(NotFound):
                await client.download_weights("model_0", tmp_path / "nothing")

    anyio.run(work)
    assert not (tmp_path / "nothing").exists()
