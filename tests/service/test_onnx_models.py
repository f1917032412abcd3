"""ONNX networks in the service: uploaded, checked by a real worker, audited, downloaded, and not fine-tuned."""

import pytest

pytest.importorskip("onnx")

import numpy as np

from faal_core import weights
from faal_core.results.reading import read_report
from tests.onnx_files import model, node, tensor
from tests.service.processes import JOB_SECONDS, wait_until
from tests.service.small_jobs import AUDIT, CLASSES, noise

FORM = {"num_classes": str(len(CLASSES)), "mean": "0.5", "std": "0.25", "class_names": ",".join(CLASSES)}


def linear_network(*before, source="x"):
    """Return an ONNX file of a linear classifier for the noise, after other nodes."""
    values = np.random.default_rng(0).normal(size=(256, len(CLASSES))) / 16
    nodes = [*before, node("Flatten", source, "flat"), node("MatMul", "flat weight", "y")]
    return model(nodes, [tensor("weight", values)], shape=["n", 1, 16, 16]).SerializeToString()


def upload(client, path, content, **form):
    """Upload a file, wait until it was checked, and return the answer's resource."""
    answer = client.post(path, files={"file": ("mine.onnx", content)}, data=form)
    assert answer.status_code == 202, answer.text
    location = answer.headers["Location"]
    wait_until(lambda: client.get(location).json()["status"] != "validating", JOB_SECONDS)
    return client.get(location).json()


@pytest.mark.slow
def test_an_onnx_network_is_audited(open_site, tmp_path):
    """The file is checked and stored as it is; the report has its architecture; a fine-tuning is refused at once."""
    site = open_site()
    _, client = site.api()
    site.worker()
    content = linear_network()
    made = upload(client, "/models", content, **FORM)
    assert (made["status"], made["error"], made["spec"]["architecture"]) == ("ready", None, "onnx")
    dataset = upload(client, "/datasets", noise())

    job = client.post("/jobs/audit", json={"model": made["id"], "dataset": dataset["id"], **AUDIT}).json()
    wait_until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] in ("succeeded", "failed"), JOB_SECONDS)
    report = read_report(client.get(f"/jobs/{job['id']}/report", headers={"Accept": "application/json"}).text)
    assert report.classifier.spec.architecture == "onnx"
    assert report.classifier.sha256 == made["sha256"]

    download = client.get(f"/models/{made['id']}/weights")
    assert (download.content, download.headers["Content-Type"]) == (content, "application/onnx")
    (tmp_path / "copy.onnx").write_bytes(content)
    assert weights.digest(weights.read_classifier(tmp_path / "copy.onnx")) == made["sha256"]

    refused = client.post(
        "/jobs/finetune", json={"model": made["id"], "dataset": dataset["id"], "threat": {"epsilon": "8/255"}}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-spec")
    assert "audited but not fine-tuned" in refused.json()["detail"]

    hostile = upload(client, "/models", linear_network(node("RandomNormalLike", "x", "z"), source="z"), **FORM)
    assert (hostile["status"], hostile["error"]["code"]) == ("rejected", "weights-unreadable")
    assert "operator RandomNormalLike is not supported" in hostile["error"]["message"]
