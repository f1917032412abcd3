"""Fine-tune from Python: a classifier, images and a radius, as a caller has them, without specs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from faal_core.auditing.call import Attacks, Radius, require_classifier, require_logits, restored_modes
from faal_core.classifier import Classifier
from faal_core.datasets.arrays import Array
from faal_core.datasets.from_python import label_images
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.finetuning.result import FinetuneResult
from faal_core.finetuning.run import run_finetuning
from faal_core.progress import Progress
from faal_core.reports.watching import choose_progress
from faal_core.specs import FinetuneSpec
from faal_core.specs.field_errors import check_fields

Data = tuple[Array, Array] | LabelledImages | Dataset[Any] | DataLoader[Any]


def finetune(
    classifier: Classifier,
    train: Data,
    test: Data,
    *,
    epsilon: Radius,
    norm: str = "linf",
    method: str | Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    attacks: Attacks | None = None,
    subset: int | None = None,
    name: str | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    progress: Progress | bool = True,
) -> FinetuneResult:
    """Fine-tune a copy of a robust classifier, so that its weakest classes withstand more attacks.

    Part of the training images selects the weights. The test images are audited before and after, and choose nothing.

    Args:
        classifier: of `Classifier.wrap` or `read_classifier`; adversarially trained.
        train, test: a pair of arrays (images, labels), a LabelledImages, or a Dataset or DataLoader, as in `audit`.
        epsilon, norm: the radius of training and audits, as in `audit`.
        method: "faal" when absent; another name of the reference page, or its fields, such as {"type": "trades", "beta": 6}.
        training: fields of TrainingSpec, such as {"learning_rates": [0.002, 0.0002], "batch_size": 64}.
        attacks, subset: of the two audits, as in `audit`.
        name: of the classifier in the report.
        device: where to compute; the device of the network when absent.
        checkpoint: folder from which a killed fine-tuning resumes.
        minutes: time after which training ends early enough for the second audit.
        progress: whether to show progress in terminals and notebooks, or a `Progress` of your own.
    Raises: InvalidSpec for arguments that are wrong or do not fit one another; DatasetInvalid for images or labels;
        ClassifierUnsuitable where the network returns no logits; TrainingDiverged; OutOfTime; OutOfMemory; OSError.
    """
    require_classifier(classifier)
    audit_fields = {"attacks": attacks, "images": subset}
    spec = check_fields(
        FinetuneSpec,
        threat={"norm": norm, "epsilon": epsilon},
        method={"type": method} if isinstance(method, str) else method,
        training=training,
        audit={field: value for field, value in audit_fields.items() if value is not None},
    )
    training_data, test_data = _label(train, classifier, "train"), _label(test, classifier, "test")
    classifier.adapt_to_channels(training_data.images.shape[1])
    target = torch.device(device) if device is not None else classifier.device
    with restored_modes(classifier), choose_progress(progress, minutes) as shown:
        require_logits(classifier.place(target).eval(), training_data)
        return run_finetuning(
            classifier,
            training_data,
            test_data,
            spec,
            name=name or classifier.spec.architecture.rpartition(".")[2],
            device=target,
            checkpoint=Path(checkpoint) if checkpoint else None,
            progress=shown,
        )


def _label(data: Data, classifier: Classifier, part: Part) -> LabelledImages:
    """Return the data of that part as labelled images. Raises: InvalidSpec, DatasetInvalid."""
    images, labels = data if isinstance(data, tuple) else (data, None)
    return label_images(images, labels, classifier, part=part)
