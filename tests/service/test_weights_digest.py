"""A model's weights have the same digest everywhere; and the service reads the named weights of a checkpoint."""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

from faal_core import networks, weights
from faal_core.results.reading import read_report
from tests.service.processes import JOB_SECONDS, wait_until
from tests.service.small_jobs import AUDIT, SPEC, noise


def upload_model(client: httpx.Client, path: Path, **fields: str) -> dict:
    """Upload that file, and return the model after its check."""
    with path.open("rb") as file:
        answer = client.post("/models", files={"file": (path.name, file)}, data=fields)
    assert answer.status_code == 202, answer.text
    wait_until(lambda: client.get(answer.headers["Location"]).json()["status"] != "validating", JOB_SECONDS)
    return client.get(answer.headers["Location"]).json()


def command_line_report(folder: Path, file: Path, *options: str) -> dict:
    """Return the report of `faal audit` on the same file and images."""
    command = [
        sys.executable,
        "-m",
        "faal_core.cli",
        "audit",
        "--weights",
        str(file),
        "--dataset",
        str(folder / "noise.npz"),
    ]
    attack = json.dumps(AUDIT["attacks"])
    arguments = ["--epsilon", "0.1", "--attacks", attack, "--out", str(folder / "out"), "--json", *options]
    return json.loads(
        subprocess.run([*command, *arguments], capture_output=True, check=True, text=True, timeout=120).stdout
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint with two sets of weights; the average is that of `torch.manual_seed(1)`."""
    torch.manual_seed(1)
    average = networks.build(SPEC).backbone.state_dict()
    plain = {name: torch.zeros_like(tensor) for name, tensor in average.items()}
    torch.save({"state_dict": plain, "state_dict_ema": average}, tmp_path / "net_10:14:29.pth")
    return tmp_path / "net_10:14:29.pth"


@pytest.mark.slow
def test_one_digest_everywhere(open_site, checkpoint, tmp_path):
    """Model, page, report, command line and download agree on the digest of the weights; another digest is called the file's."""
    site = open_site()
    _, client = site.api()
    site.worker()
    spec = {"spec": SPEC.model_dump_json()}
    model = upload_model(client, checkpoint, weights_key="state_dict_ema", **spec)
    assert (model["status"], model["error"]) == ("ready", None)
    (tmp_path / "noise.npz").write_bytes(noise())
    with (tmp_path / "noise.npz").open("rb") as file:
        dataset = client.post("/datasets", files={"file": ("noise.npz", file)}).json()["id"]
    wait_until(lambda: client.get(f"/datasets/{dataset}").json()["status"] == "ready", JOB_SECONDS)
    body = {"model": model["id"], "dataset": dataset, **AUDIT}
    job = client.post("/jobs/audit", json=body).raise_for_status().json()["id"]
    wait_until(lambda: client.get(f"/jobs/{job}").json()["status"] == "succeeded", JOB_SECONDS, site.tell)
    report = read_report(client.get(f"/jobs/{job}/report", headers={"Accept": "application/json"}).text)

    answer = client.get(f"/models/{model['id']}/weights")
    (tmp_path / "downloaded.safetensors").write_bytes(answer.content)
    torch.manual_seed(1)
    digest_of_weights = weights.digest(networks.build(SPEC))
    network = ["--architecture", SPEC.architecture, "--num-classes", "3", "--argument", "width=8"]
    of_upload = command_line_report(tmp_path, checkpoint, *network, "--weights-key", "state_dict_ema")
    of_download = command_line_report(tmp_path, tmp_path / "downloaded.safetensors")
    assert {
        "model": model["sha256"],
        "report": report.classifier.sha256,
        "download": weights.digest(weights.read_classifier(tmp_path / "downloaded.safetensors")),
        "command line, upload": of_upload["classifier"]["sha256"],
        "command line, download": of_download["classifier"]["sha256"],
    } == dict.fromkeys(
        ["model", "report", "download", "command line, upload", "command line, download"], digest_of_weights
    )

    of_file = hashlib.sha256(answer.content)
    assert model["file_sha256"] == of_file.hexdigest() != digest_of_weights
    field = f"sha-256=:{base64.b64encode(of_file.digest()).decode()}:"
    assert (answer.headers["Repr-Digest"], answer.headers["Content-Digest"]) == (field, field)
    page = client.get(f"/ui/models/{model['id']}").text
    assert f"SHA-256 of the weights, as in every report</dt><dd><code>{digest_of_weights}" in page
    assert f"SHA-256 of the file to download</dt><dd><code>{of_file.hexdigest()}" in page
    assert digest_of_weights in client.get(f"/jobs/{job}/report", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize("key", [None, "ema"])
def test_the_service_takes_no_weights_silently(open_site, checkpoint, key):
    """A checkpoint with two sets of weights is rejected, and the error lists their keys, until the upload names one of them."""
    site = open_site()
    _, client = site.api()
    site.worker()
    model = upload_model(
        client, checkpoint, spec=SPEC.model_dump_json(), **({} if key is None else {"weights_key": key})
    )
    assert (model["status"], model["error"]["code"]) == ("rejected", "weights-ambiguous")
    assert "state_dict, state_dict_ema" in model["error"]["message"]
    assert "weights_key" in model["error"]["message"]
    assert (model["sha256"], model["file_sha256"]) == (None, None)


def test_one_mean_becomes_as_many_as_the_weights_take(open_site, tmp_path):
    """A network of colour images that is uploaded without means is stored with three."""
    site = open_site()
    _, client = site.api()
    site.worker()
    colour = SPEC.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    torch.save(networks.build(colour).backbone.state_dict(), tmp_path / "colour.pt")
    model = upload_model(
        client, tmp_path / "colour.pt", architecture="small_resnet", num_classes="3", arguments='{"width": 8}'
    )
    assert (model["status"], model["spec"]["mean"], model["spec"]["std"]) == ("ready", [0.0] * 3, [1.0] * 3)
