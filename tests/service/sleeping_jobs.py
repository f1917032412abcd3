"""Long audits of a network that sleeps: an installation whose workers offer it, its weights, and images of three patterns."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faal_core import catalog, networks, weights
from faal_core.specs import AuditSpec, ClassifierSpec
from jobs import dataset_registry, lifecycle, model_registry
from jobs.results import StoredClassifier
from jobs.states import JobKind
from tests import sleeping_network
from tests.service.processes import Site
from tests.service.small_jobs import CLASSES

NETWORKS = Path(sleeping_network.__file__)
_CELLS = np.arange(16) % 3  # the 4 × 4 cells of an image, of which those of its class are brighter


def submit_sleeping_audit(site: Site, *, images: int, microseconds: int, steps: int, restarts: int) -> str:
    """Queue an audit by PGD without a message to a worker, and return its id. About half of the images survive all restarts.

    Args:
        microseconds: that the network takes for each image.
    """
    model, dataset = _store(site, images, microseconds)
    attack = {"type": "pgd", "steps": steps, "restarts": restarts}
    spec = AuditSpec.model_validate({"threat": {"epsilon": 0.05}, "attacks": [attack]})
    return site.submit(spec.model_dump(mode="json"), kind=JobKind.AUDIT, model=model, dataset=dataset)


def _store(site: Site, images: int, microseconds: int) -> tuple[str, str]:
    """Store the network and the images as if their checks had passed, and return their ids."""
    catalog.offer_networks(NETWORKS)
    arguments = {"microseconds": microseconds}
    spec = ClassifierSpec(architecture="site/sleeping_net", num_classes=3, class_names=CLASSES, arguments=arguments)
    classifier = networks.build(spec)
    weight = torch.tensor(np.stack([number == _CELLS for number in range(3)]), dtype=torch.float32)
    classifier.backbone.linear.load_state_dict({"weight": weight / weight.sum(1, keepdim=True), "bias": torch.zeros(3)})
    path = site.folder / "sleeping.safetensors"
    weights.write_classifier(path, classifier)
    file = site.storage.put([path.read_bytes()], media_type="application/vnd.safetensors")
    data = site.storage.put([_patterns(images)], media_type="application/zip")
    with site.sessions.begin() as session:
        lease: dict[str, Any] = {"worker": "test", "lease_seconds": 60}
        model, check = model_registry.register_upload(session, name="sleeping", spec=spec, upload=file, owner="local")
        lifecycle.claim(session, check.id, **lease)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, spec, weights.digest(classifier)))
        dataset, check = dataset_registry.register_upload(session, name="patterns", upload=data, owner="local")
        lifecycle.claim(session, check.id, **lease)
        summary = {"shape": [1, 16, 16], "class_names": CLASSES, "images": {"test": images}}
        lifecycle.succeed(session, check.id, 1, summary=summary)
    return model.id, dataset.id


def _patterns(images: int) -> bytes:
    """Return test images as .npz: the cells of an image's class are brighter than the others, by up to a quarter."""
    generator, content = np.random.default_rng(0), io.BytesIO()
    labels = np.arange(images) % 3
    contrast = generator.uniform(10, 64, (images, 1))
    cells = 100 + contrast * (_CELLS[None] == labels[:, None])
    pixels = cells.reshape(images, 4, 4).repeat(4, axis=1).repeat(4, axis=2)
    np.savez(content, test_images=pixels.astype(np.uint8), test_labels=labels, class_names=np.array(CLASSES))
    return content.getvalue()
