"""Small jobs for installations: an untrained network, a data set of noise, and jobs of a few seconds."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faal_core import networks, weights
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from jobs import dataset_registry, lifecycle, model_registry
from jobs.results import StoredClassifier
from jobs.states import JobKind
from tests.service.processes import Site

HALVES = ("first", "second")
CLASSES = ("square", "disc", "cross")
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3, arguments={"width": 8})
EPOCHS = 3
_AUDIT = {"attacks": [{"type": "pgd", "steps": 3}], "images": 60}
AUDIT = {"threat": {"epsilon": "8/255"}, **_AUDIT}

# Breaks nothing, so all its runs are made on every batch: 12 units for the clean images, and some 30 of an eighth of a
# second for the attack.
LONG_AUDIT = {
    "threat": {"epsilon": 1e-6},
    "attacks": [{"type": "pgd", "steps": 30, "restarts": 8}],
    "images": 60,
    "batch_size": 5,
}
CLEAN_UNITS = 12

# The same for twelve times as long: to be cancelled, or ended by its budget, long before its end.
LONGER_AUDIT = LONG_AUDIT | {"attacks": [{"type": "pgd", "steps": 30, "restarts": 100}]}


def untrained_weights(path: Path, spec: ClassifierSpec = SPEC) -> Path:
    """Return a file of random weights for that network, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.write_classifier(path, networks.build(spec))
    return path


def noise() -> bytes:
    """Return the data set as .npz: 480 images to train on and 90 to test on, 16 × 16, three classes; tested in two groups."""
    generator, content = np.random.default_rng(0), io.BytesIO()
    arrays: dict[str, Any] = {"class_names": np.array(CLASSES)}
    for part, count in [("train", 480), ("test", 90)]:
        arrays[f"{part}_images"] = generator.integers(0, 256, (count, 16, 16), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 3
    np.savez(content, **arrays, test_group_half=np.repeat(HALVES, 45))
    return content.getvalue()


UNBOUNDED = {"max_robust_drop": None, "max_clean_drop": None}
"""For trainings of noise: the trained weights are kept, whatever their accuracy."""

# A fine-tuning of `EPOCHS` epochs, half a second each.
FINETUNING = {
    "method": {"class_offsets": False},
    "threat": {"epsilon": "8/255"},
    "training": {"learning_rates": [0.01] * EPOCHS, "batch_size": 32, "attack": {"steps": 10}, **UNBOUNDED},
    "audit": _AUDIT,
}


def submit_finetuning(site: Site, weights_file: Path) -> str:
    """Queue that fine-tuning without a message to a worker, and return its id."""
    spec = FinetuneSpec.model_validate(FINETUNING)
    model, dataset = store(site, weights_file)
    return site.submit(spec.model_dump(mode="json"), kind=JobKind.FINETUNE, model=model, dataset=dataset)


def submit_audit(site: Site, weights_file: Path, dataset: str | None = None, **fields: Any) -> str:
    """Queue an audit on the noise or another data set without a message, and return its id; `fields` override the spec."""
    spec = AuditSpec.model_validate({**AUDIT, **fields})
    model, stored_dataset = store(site, weights_file)
    return site.submit(spec.model_dump(mode="json"), kind=JobKind.AUDIT, model=model, dataset=dataset or stored_dataset)


def store(site: Site, weights_file: Path) -> tuple[str, str]:
    """Store a model and a data set as if their checks had passed, and return their ids."""
    file = site.storage.put([weights_file.read_bytes()], media_type="application/vnd.safetensors")
    data = site.storage.put([noise()], media_type="application/zip")
    digest = weights.digest(weights.read_classifier(weights_file))
    with site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="shapes", spec=SPEC, upload=file, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=60)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, SPEC, digest))
        dataset, check = dataset_registry.register_upload(session, name="noise", upload=data, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=60)
        summary = {"shape": [1, 16, 16], "class_names": CLASSES, "images": {"train": 480, "test": 90}}
        lifecycle.succeed(session, check.id, 1, summary=summary)
    return model.id, dataset.id


NOT_COMPARED = ("seconds", "created_at", "resumed", "job_id", "model_id")


def timeless(document: str | None) -> Any:
    """Return the report without the fields in which two runs differ: durations, times and the service's ids."""
    assert document is not None

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_times(inner) for name, inner in value.items() if name not in NOT_COMPARED}
        return [without_times(inner) for inner in value] if isinstance(value, list) else value

    return without_times(json.loads(document))
