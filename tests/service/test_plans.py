"""A plan with a real service, worker and receiver: a worse version of a model is announced, an equal one is not."""

import json

import pytest
import torch

from api.uploads.bundled import CLASSIFIER
from faal_client import Client
from faal_client.resources.plans import FallenAudit, PlanRunResource
from faal_client.resources.webhooks import Announcement
from faal_core import weights
from jobs import lifecycle, model_registry
from jobs.results import StoredClassifier
from tests.service.processes import JOB_SECONDS, Site, wait_until
from tests.webhook_receiver import run_receiver

AUDIT = {"threat": {"epsilon": "8/255"}, "attacks": [{"type": "pgd", "steps": 2}], "images": 200}


def add_version(site: Site, path, noise: float) -> str:
    """Add the bundled model as if its check had passed, with normal noise on its weights, and return its id."""
    classifier = weights.read_classifier(CLASSIFIER)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in classifier.parameters():
            values.add_(torch.randn(values.shape, generator=generator), alpha=noise * values.std(correction=0).item())
    weights.write_classifier(path, classifier)
    file = site.storage.put([path.read_bytes()], media_type=model_registry.WEIGHTS_TYPE)
    spec = classifier.spec
    with site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="clothes", spec=spec, upload=file, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, spec, weights.digest(classifier)))
    return model.id


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "verdict"), [(1.0, "worse"), (1e-5, "unclear")])
def test_a_worse_version_is_announced_and_an_equal_one_is_not(open_site, tmp_path, noise, verdict) -> None:
    """A new version is audited on the rows of the first and compared; the webhook gets a message about falls if it is worse."""
    site = open_site(webhook_networks="127.0.0.1", sweep_seconds=0.2)
    _, http = site.api()
    path = tmp_path / "version.safetensors"
    add_version(site, path, 0)
    site.worker()
    with run_receiver() as receiver, Client(str(http.base_url)) as client:
        webhook = client.create_webhook(receiver.url)
        plan = client.create_plan("every version", "clothes", "fashion-mnist-subset", AUDIT)

        def wait_for_run(number: int) -> PlanRunResource:
            def has_ended() -> bool:
                state = client.plan(plan.id)
                return len(state.runs) == number and state.current_run is None

            wait_until(has_ended, JOB_SECONDS, site.tell)
            return client.plan(plan.id).runs[0]

        first = wait_for_run(1)
        model = add_version(site, path, noise)
        run = wait_for_run(2)
        report = client.comparison(run.comparison or "")
        assert (run.model, run.baseline, run.verdict, run.falls) == (model, first.job, verdict, len(report.falls))
        assert report.before.dataset.sha256 == report.after.dataset.sha256
        assert run.worst_class is not None
        assert run.worst_class.rate == report.after.robust.worst.value
        kinds = [message.type for message in client.list_webhook_messages(webhook.resource.id)]
        assert kinds.count("audit.fell") == (verdict == "worse")

        def read_falls() -> list[FallenAudit]:
            messages = [Announcement.model_validate(json.loads(body)) for _, body in receiver.requests]
            return [message.data for message in messages if isinstance(message.data, FallenAudit)]

        wait_until(lambda: len(read_falls()) == kinds.count("audit.fell"), 15, site.tell)
        for fall in read_falls():
            assert (fall.plan, fall.model, fall.job, fall.baseline) == (plan.id, model, run.job, first.job)
            assert fall.count == len(report.falls)
            assert {one.accuracy for one in fall.falls} == {"clean", "robust"}
            assert all(one.after < one.before for one in fall.falls)
