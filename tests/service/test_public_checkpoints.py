"""Networks in the public format: state dicts that are uploaded, audited and fine-tuned over HTTP."""

from pathlib import Path

import numpy as np
import pytest
import torch

from faal_client import Client
from faal_core import networks
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
AUDIT = {"attacks": [{"type": "pgd", "steps": 1}], "batch_size": 10}
TRAINING = {"learning_rates": [0.001], "batch_size": 10, "attack": {"steps": 1}, "validation_fraction": 0}


def colour_images(path: Path) -> Path:
    """Return twenty images of noise for training and ten for testing, 32 × 32, ten classes."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in [("train", 20), ("test", 10)]:
        arrays[f"{part}_images"] = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 10
    np.savez(path, **arrays)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("architecture", ["preact_resnet18", "wrn_34_10"])
def test_public_state_dict_is_audited_and_repaired(site, architecture, tmp_path):
    """A checkpoint of DataParallel (random weights, the public key names) uploads, audits and fine-tunes."""
    site.api()
    site.worker()
    spec = ClassifierSpec(architecture=architecture, num_classes=10, mean=MEAN, std=STD)
    backbone = networks.build(spec).backbone
    checkpoint = {"state_dict": {f"module.{name}": value for name, value in backbone.state_dict().items()}, "epoch": 76}
    torch.save(checkpoint, tmp_path / "public.pt")
    with Client(f"http://127.0.0.1:{site.settings.port}") as client:
        model = client.wait_until_ready(client.upload_model(tmp_path / "public.pt", spec=spec))
        data = client.wait_until_ready(client.upload_dataset(colour_images(tmp_path / "images.npz")))
        audit_spec = AuditSpec.model_validate({"threat": {"epsilon": "8/255"}, **AUDIT})
        audit_report = client.report(client.submit_audit(model.id, data.id, audit_spec).id)
        finetune_spec = {"threat": {"epsilon": "8/255"}, "training": TRAINING, "audit": AUDIT}
        job = client.submit_finetune(model.id, data.id, FinetuneSpec.model_validate(finetune_spec))
        finetune_report = client.report(job.id)
    assert isinstance(audit_report, AuditReport)
    assert isinstance(finetune_report, FinetuneReport)
    assert audit_report.classifier.parameters == sum(parameter.numel() for parameter in backbone.parameters())
    assert finetune_report.before.classifier == audit_report.classifier
    assert finetune_report.after.classifier.sha256 != audit_report.classifier.sha256
