"""The Python client against a service with a worker: from an upload of weights to a download of fine-tuned weights."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from api.client import Client, ServiceProblem, UploadRejected
from faal_core import weights
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSpec, FinetuneSpec
from tests.service.processes import Site, servers_first
from tests.service.small_jobs import CLASSES, HALVES, SPEC, UNBOUNDED, noise

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
    holds = {"shape": [1, 16, 16], "class_names": list(CLASSES), "images": parts, "groups": groups}
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
