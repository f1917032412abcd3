"""Models of a fine-tuning's candidates, through a real web service, a real worker and real files."""

from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import torch
from safetensors.torch import load_file

from faal_client import Client
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from tests.service.processes import JOB_SECONDS, Site, wait_until
from tests.service.small_jobs import FINETUNING, store

BOUNDS = {"max_robust_drop": 1.0, "max_clean_drop": 1.0, "learning_rates": [0.1]}


def ready_weights(client: httpx.Client, model_id: str, file: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model, once it is ready."""
    wait_until(lambda: client.get(f"/models/{model_id}").json()["status"] != "validating", JOB_SECONDS)
    model = client.get(f"/models/{model_id}").json()
    assert model["status"] == "ready", model
    file.write_bytes(client.get(f"/models/{model_id}/weights").content)
    return load_file(file)


class Finetuned(NamedTuple):
    """A fine-tuning that has ended: a client of its service, the ids of the given model and of the job, and the report."""

    client: httpx.Client
    given_model: str
    job_id: str
    report: FinetuneReport


def fine_tune(site: Site, weights_file: Path, **fields: object) -> Finetuned:
    """Fine-tune these weights within wide bounds, with these fields in the request, and wait for the end."""
    _, client = site.api()
    site.worker()
    given_model, dataset = store(site, weights_file)
    training = FINETUNING["training"] | BOUNDS
    body = FINETUNING | {"training": training, "model": given_model, "dataset": dataset, **fields}
    job_id = client.post("/jobs/finetune", json=body).raise_for_status().json()["id"]
    site.wait_until_ended(job_id)
    report = read_report(site.report(job_id))
    assert isinstance(report, FinetuneReport)
    return Finetuned(client, given_model, job_id, report)


@pytest.mark.slow
def test_every_candidate_can_be_had(open_site, weights_file, tmp_path) -> None:
    """A candidate's weights are the interpolation that the report states; a second request gets the same model."""
    client, given_model, job_id, report = fine_tune(open_site(), weights_file)
    assert [one.interpolation for one in report.candidates] == [0, 0.25, 0.5, 0.75, 1]
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["outcome"], job["falls"]) == (report.outcome, len(report.falls))
    page = client.get(f"/ui/jobs/{job_id}").text
    others = [number for number in range(1, 5) if number != report.selected_candidate]
    assert [f'action="/ui/jobs/{job_id}/candidates/{number}"' in page for number in others] == [True] * len(others)

    path = f"/jobs/{job_id}/candidates"
    answer = client.post(f"{path}/0")
    assert (answer.status_code, answer.json()["id"]) == (200, given_model)
    weights = {0: ready_weights(client, given_model, tmp_path / "0.safetensors")}
    for number in range(1, 5):
        answer = client.post(f"{path}/{number}")
        assert answer.status_code == (200 if number == report.selected_candidate else 202), answer.text
        model = answer.json()
        assert answer.headers["Location"] == f"/models/{model['id']}"
        weights[number] = ready_weights(client, model["id"], tmp_path / f"{number}.safetensors")
        again = client.post(f"{path}/{number}")
        assert (again.status_code, again.json()["id"]) == (200, model["id"])
    start, end = weights[0], weights[4]
    assert any(not torch.equal(start[name], end[name]) for name in start)
    for number in (1, 2, 3):
        for name, value in weights[number].items():
            if value.is_floating_point():
                weight = start[name] + report.candidates[number].interpolation * (end[name] - start[name])
                torch.testing.assert_close(value, weight, rtol=1e-4, atol=1e-5)
    with Client(str(client.base_url)) as customer:
        assert customer.make_candidate(job_id, others[0]).candidate == others[0]
    assert "Make a model" not in client.get(f"/ui/jobs/{job_id}").text
    assert client.post(f"{path}/5").json()["code"] == "candidate-not-found"


@pytest.mark.slow
def test_a_change_without_training_has_candidates_too(open_site, weights_file, tmp_path) -> None:
    """A fine-tuning without training runs over HTTP, and its candidates differ from the given model in the last layer alone."""
    client, given_model, job_id, report = fine_tune(open_site(), weights_file, method={"type": "hwnwb"})
    assert (report.epochs, report.selected_interpolation) == ((), 0)
    assert [one.offset_scale for one in report.candidates] == [0, 0.25, 0.5, 0.75, 1]
    page = client.get(f"/ui/jobs/{job_id}").text
    assert "no training, the last layer alone" in page
    assert "Each candidate has the given weights with a part of the change of the last layer." in page
    original = ready_weights(client, given_model, tmp_path / "given.safetensors")
    for number, one in list(enumerate(report.candidates))[1:]:
        model = client.post(f"/jobs/{job_id}/candidates/{number}").json()
        weights = ready_weights(client, model["id"], tmp_path / f"{number}.safetensors")
        (name,) = (name for name, value in weights.items() if not torch.equal(value, original[name]))
        scales = torch.tensor(report.unscaled_row_scales).unsqueeze(1) ** one.offset_scale
        torch.testing.assert_close(weights[name], scales * original[name])
