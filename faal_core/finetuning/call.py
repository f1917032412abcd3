"""Fine-tune from Python: a classifier, images and a radius, as a caller has them, without specs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from faal_core.auditing.borrowing import borrow
from faal_core.auditing.call import Attacks, Radius, list_radii, require_classifier, require_processes
from faal_core.auditing.processes import Executors
from faal_core.auditing.suitability import check_trainable, require_logits
from faal_core.classifier import Classifier
from faal_core.datasets.from_python import ImageData, label_images
from faal_core.devices import find_device
from faal_core.errors import InvalidSpec
from faal_core.finetuning.result import FinetuneResult
from faal_core.finetuning.run import run_finetuning
from faal_core.progress import Progress
from faal_core.reports.watching import choose_progress
from faal_core.specs import FinetuneSpec
from faal_core.specs.field_errors import check_fields


def finetune(
    classifier: Classifier,
    train: ImageData,
    test: ImageData,
    *,
    train_groups: Mapping[str, Sequence[str | int]] | None = None,
    test_groups: Mapping[str, Sequence[str | int]] | None = None,
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
    processes: int | None = None,
    progress: Progress | bool = True,
) -> FinetuneResult:
    """Fine-tune a copy of a robust classifier, so that its weakest classes withstand more attacks.

    A part of the training images is the validation set, which selects the weights. The test images serve only for the
    audits before and after the training.

    Args:
        classifier: the result of `Classifier.wrap` or `read_classifier`; trained adversarially.
        train, test: a pair of arrays (images, labels), a LabelledImages, or a Dataset or DataLoader, as in `audit`.
        train_groups, test_groups: the groups of the images, as `groups` of `audit`. Every report breaks results down by the
            groups of the test images; the method {"type": "faal", "groups": COLUMN} makes the weakest class × group cells
            of a column more robust, and needs the groups of both. The methods head and hwnwb can have `groups`, too.
        epsilon, norm: the radius of training and audits, as in `audit`.
        method: "faal" (the default), "head", "uniform", "frl", "cfa", "wat", "dafa", "cfol", "fsr", "decosam" or "hwnwb", or
            the fields of a method, such as {"type": "faal", "loss": "trades"}. "head" and "hwnwb" train nothing and take minutes.
        training: fields of TrainingSpec, such as {"learning_rates": [0.002, 0.0002], "batch_size": 64}.
        attacks, subset: of the two audits, as in `audit`.
        name: the name of the classifier in the report.
        device: where to compute; the device of the network when absent.
        checkpoint: folder from which a killed fine-tuning resumes.
        minutes: time limit of the whole run. The training ends early enough for the second audit.
        processes: number of processes that audit and validate, as in `audit`; the training uses one.
        progress: whether to show progress in terminals and notebooks, or a `Progress` of your own.
    Raises: InvalidSpec for arguments that are wrong or do not fit one another; GroupsMissing; DatasetInvalid for images or
        labels; ClassifierUnsuitable where the network returns no logits; TrainingDiverged; OutOfTime; OutOfMemory; OSError.
    """
    require_classifier(classifier)
    require_processes(processes)
    radii = list_radii(epsilon)
    if len(radii) != 1:
        raise InvalidSpec(f"epsilon: a fine-tuning takes exactly one radius, not {len(radii)}.")
    audit_fields = {"attacks": attacks, "images": subset}
    spec = check_fields(
        FinetuneSpec,
        threat={"norm": norm, "epsilon": radii[0]},
        method={"type": method} if isinstance(method, str) else method,
        training=training,
        audit={field: value for field, value in audit_fields.items() if value is not None},
    )
    check_trainable(classifier, spec)
    training_data = label_images(train, None, classifier, part="train", groups=train_groups)
    test_data = label_images(test, None, classifier, part="test", groups=test_groups)
    target = find_device(device) if device is not None else classifier.device
    with borrow(classifier, training_data.images.shape[1]), choose_progress(progress, minutes) as shown:
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
            executors=Executors(processes),
        )
