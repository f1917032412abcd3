"""Audit from Python: a network, images and a radius, as a caller has them, without specs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from faal_core.auditing.borrowing import borrow
from faal_core.auditing.processes import Executors
from faal_core.auditing.radii import RadiusSeries
from faal_core.auditing.result import AuditResult
from faal_core.auditing.run import run_audit
from faal_core.auditing.sources import NamedSource, add_transfer_attacks, collect_sources
from faal_core.auditing.suitability import require_logits
from faal_core.classifier import Classifier
from faal_core.datasets.arrays import Array
from faal_core.datasets.from_python import ImageData as Images
from faal_core.datasets.from_python import label_images
from faal_core.devices import find_device
from faal_core.errors import InvalidSpec
from faal_core.progress import Progress
from faal_core.reports.watching import choose_progress
from faal_core.results.ledger import CLEAN
from faal_core.specs import AuditSpec
from faal_core.specs.field_errors import check_fields
from faal_core.threat_model import ThreatModel

Radius = float | str
Attacks = str | Sequence[Mapping[str, Any]]


@overload
def audit(
    classifier: Classifier,
    images: Images,
    labels: Array | None = None,
    *,
    epsilon: Radius,
    **options: Any,  # noqa: ANN401 - as below
) -> AuditResult: ...


@overload
def audit(
    classifier: Classifier,
    images: Images,
    labels: Array | None = None,
    *,
    epsilon: Sequence[Radius],
    **options: Any,  # noqa: ANN401 - as below
) -> RadiusSeries: ...


def audit(  # type: ignore[misc]  # the overloads leave out the options
    classifier: Classifier,
    images: Images,
    labels: Array | None = None,
    *,
    epsilon: Radius | Sequence[Radius],
    norm: str = "linf",
    attacks: Attacks | None = None,
    subset: int | None = None,
    decide_worst: float | None = None,
    class_names: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str | int]] | None = None,
    name: str | None = None,
    data_name: str | None = None,
    batch_size: int | None = None,
    confidence: float | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    ledger: str | Path | None = None,
    keep_adversarial: bool | str | Path = False,
    escalate: bool | None = None,
    transfer_from: NamedSource | Sequence[NamedSource] = (),
    minutes: float | None = None,
    processes: int | None = None,
    progress: Progress | bool = True,
) -> AuditResult | RadiusSeries:
    """Audit a classifier: the accuracy of each class, clean and under attack, with bounds and a verdict.

    Args:
        classifier: the result of `Classifier.wrap` or `read_classifier`. It computes in eval mode. The network is
            restored afterwards; a second call with it waits until this one ends.
        images: tensors or NumPy arrays (`n c h w`, `n h w c` or `n h w`, uint8 levels or floats in [0, 1]), a pair of
            images and labels, a LabelledImages, or a Dataset, DataLoader or list of pairs of image and label.
            Images must not be normalised: the classifier does that.
        labels: whole numbers from 0; only with arrays.
        epsilon: the radius, such as "8/255" or 0.5, for pixels in [0, 1]; a list of radii returns a RadiusSeries.
        norm: "linf" or "l2".
        attacks: a preset ("quick", "pgd-20", "fast", "standard") or a list of attacks; "pgd-20" when absent, a first look.
            "fast" is nearly as strong as AutoAttack, and "standard" is AutoAttack's protocol.
        subset: number of images to audit, drawn from each class in proportion; all when absent.
        decide_worst: a rate; images are audited in random order only until the intervals decide whether the robust accuracy of
            each class is at least this rate.
        class_names: names of the labels; the classifier's, the data set's own, or numbers when absent.
        groups: a mapping from the name of a column to the group of each image, or a table of pandas or polars.
        name, data_name: the names of the classifier and the images in the report.
        batch_size, confidence, seed: 250, 0.95 and 0 when absent.
        device: where to compute, such as "cuda" or "auto"; the device of the network when absent.
        ledger: file that stores each finished batch, from which a killed audit resumes; only with one radius.
        keep_adversarial: whether the result holds the adversarial images; a .npy path keeps them in that new file.
        escalate: whether further attacks follow, on images that are still robust, after warnings that the gradients cannot be
            trusted; true when absent.
        transfer_from: up to 3 other classifiers of the same classes, or paths of their weights. Attacks follow their gradients,
            after those in `attacks`. Files without an architecture have that of `classifier`.
        minutes: time after which the audit stops and reports its results so far.
        processes: number of processes that compute, each with one thread or on a GPU of its own. The results are the same.
            When absent, a short measurement chooses it.
        progress: whether to show progress in terminals and notebooks, or a `Progress` of your own with its own time limit.
    Raises: InvalidSpec for arguments that are wrong or do not fit one another; DatasetInvalid for images or labels;
        ClassifierUnsuitable where the network returns no logits; LedgerMismatch; OutOfMemory; OSError.
    """
    require_classifier(classifier)
    require_processes(processes)
    threats = [check_fields(ThreatModel, norm=norm, epsilon=radius) for radius in list_radii(epsilon)]
    specs = [
        check_fields(
            AuditSpec,
            threat=threat,
            attacks=attacks,
            images=subset,
            sequential=None if decide_worst is None else {"min_worst": decide_worst},
            batch_size=batch_size,
            confidence=confidence,
            seed=seed,
            escalate=escalate,
        )
        for threat in sorted(set(threats), key=lambda threat: threat.epsilon)
    ]
    if not specs or (len(specs) > 1 and (ledger or isinstance(keep_adversarial, str | Path))):
        raise InvalidSpec(
            f"epsilon has {len(specs)} radii. Pass at least one; with `ledger` or a file in `keep_adversarial`, exactly one."
        )
    sources = collect_sources(transfer_from, classifier)
    specs = [add_transfer_attacks(spec, classifier, sources) for spec in specs]
    data = label_images(images, labels, classifier, class_names=class_names, groups=groups, name=data_name)
    target = find_device(device) if device is not None else classifier.device
    results: list[AuditResult] = []
    with borrow(classifier, data.images.shape[1]), choose_progress(progress, minutes) as shown:
        require_logits(classifier.place(target).eval(), data)
        for spec in specs:
            result = run_audit(
                classifier,
                data,
                spec,
                name=name or classifier.spec.architecture.rpartition(".")[2],
                device=target,
                ledger=Path(ledger) if ledger else None,
                progress=shown,
                executors=Executors(processes),
                sources=sources,
                known_results=[one for one in results[0].batch_results if one.attack == CLEAN] if results else (),
                keep_adversarial=Path(keep_adversarial) if isinstance(keep_adversarial, str) else keep_adversarial,
            )
            results.append(result)
    return results[0] if is_single(epsilon) else RadiusSeries(tuple(results))


def require_classifier(classifier: object) -> None:
    """Check that the network is wrapped. Raises: InvalidSpec."""
    if not isinstance(classifier, Classifier):
        wrapped = "Classifier.wrap(network, num_classes=…, mean=…, std=…)"
        advice = f"Wrap it first: {wrapped}." if isinstance(classifier, nn.Module) else f"Pass {wrapped}."
        raise InvalidSpec(f"The first argument is a {type(classifier).__name__}, not a Classifier. {advice}")


def require_processes(processes: int | None) -> None:
    """Check the number of processes. Raises: InvalidSpec."""
    if processes is not None and processes < 1:
        raise InvalidSpec(f"processes: {processes} is less than 1. Leave it out to let a measurement choose.")


def list_radii(epsilon: Any) -> list[Any]:  # noqa: ANN401 - whatever a caller in Python passes
    """Return the radii of an argument, which may be a number of any kind, a text, or several of them.

    Raises: InvalidSpec.
    """
    if isinstance(epsilon, Tensor | np.ndarray):
        epsilon = epsilon.tolist()
    if isinstance(epsilon, str) or not isinstance(epsilon, Iterable):
        epsilon = [epsilon]
    try:
        return [one if isinstance(one, str | bool | None) else float(one) for one in epsilon]
    except (TypeError, ValueError):
        raise InvalidSpec('epsilon: a radius is a number or a fraction such as "8/255".') from None


def is_single(epsilon: object) -> bool:
    """Return whether the argument is one radius, not a list of radii."""
    return isinstance(epsilon, str) or getattr(epsilon, "ndim", None) == 0 or not isinstance(epsilon, Iterable)
