"""Per-class accuracy of a classifier, clean and attacked, with a verdict: from images to the report."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from faal_core import __version__, weights
from faal_core.attacks import reliability
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.evaluation import Evaluator, evaluate, room_for
from faal_core.per_class import ClassTable, Evaluation
from faal_core.progress import NoProgress, Progress
from faal_core.reports.documents import AuditReport, ClassifierSummary
from faal_core.specs import AuditSpec

PRODUCT = f"FAAL {__version__}"
_SAMPLE = 64  # images the reliability checks look at


@dataclass(frozen=True, slots=True)
class Audited:
    """The report and the rows it was computed from."""

    report: AuditReport
    evaluation: Evaluation


def audit(
    classifier: Classifier,
    data: LabelledImages,
    spec: AuditSpec,
    *,
    name: str,
    device: torch.device,
    progress: Progress | None = None,
) -> Audited:
    """The audit of `classifier` (called `name` in the report) on `data`, or on the part of it that the spec asks for.

    On a CPU with a fixed number of threads the same arguments give the same report, times apart.

    Raises: InvalidSpec where classifier and data do not fit; ClassifierUnsuitable, OutOfMemory; Cancelled.
    """
    begun = time.monotonic()
    if spec.images is not None:
        data = data.take(data.stratified(spec.images, spec.seed))
    evaluator = Evaluator(classifier, data, device=device, batch_size=spec.batch_size, seed=spec.seed)
    with room_for(spec.batch_size):
        _, x, y = next(
            evaluator.batches(data.stratified(min(len(data), max(_SAMPLE, len(data.class_names))), spec.seed))
        )
        evaluator.predict(x)
        warnings = reliability.examine(classifier, x, y)
        evaluation, attack_rows = evaluate(evaluator, spec.threat, spec.attacks, progress or NoProgress())
    table = ClassTable(evaluation, data.class_names, len(spec.attacks), spec.confidence)
    report = AuditReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        seconds=time.monotonic() - begun,
        classifier=summarise(classifier, name),
        dataset=data.summary(),
        spec=spec,
        warnings=warnings,
        classes=table.rows(),
        clean=table.spread(table.clean),
        robust=table.spread(table.robust),
        attacks=attack_rows,
        confusion=table.confusion(),
    )
    return Audited(report, evaluation)


def summarise(classifier: Classifier, name: str) -> ClassifierSummary:
    """What a report says of the classifier."""
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    return ClassifierSummary(name=name, spec=classifier.spec, parameters=parameters, sha256=weights.digest(classifier))
