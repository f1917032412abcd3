"""Per-class accuracy of a classifier, clean and attacked, with a verdict: from images to the report."""

import hashlib
import time
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from faal_core import __version__, weights
from faal_core.audit import reliability
from faal_core.audit.evaluator import Evaluator, evaluate
from faal_core.audit.gallery import gallery
from faal_core.audit.provenance import provenance
from faal_core.classifier import Classifier
from faal_core.datasets.data_warnings import examine_data
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_radius, match_classes
from faal_core.device_memory import room_for
from faal_core.progress import NoProgress, Progress
from faal_core.results.class_table import ClassTable, group_table
from faal_core.results.documents import AuditReport, ClassifierSummary
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import Ledger
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
    ledger: Path | None = None,
    compute: bool = True,
    progress: Progress | None = None,
    trained_on: Set[bytes] = frozenset(),
) -> Audited:
    """The audit of `classifier` (called `name` in the report) on `data`, or on the part of it that the spec asks for.

    Where results repeat (docs/claims.md says where) the same arguments give the same report, times apart. One that runs out of
    the time that `progress` gives it reports what was found until then, and says what is missing.

    Args:
        ledger: a file in which every finished batch is stored at once; an audit that was killed resumes from it.
        compute: otherwise the report is of what the ledger knows, and no verdict is added.
        trained_on: `reliability.pixel_digests` of the training images, where they are known; the report warns of images that
            are among them.
    Raises: InvalidSpec where classifier and data do not fit, or the radius exceeds the diameter of all images;
        LedgerMismatch where the file is another audit's; ClassifierUnsuitable, OutOfMemory; Cancelled; OSError.
    """
    begun = time.monotonic()
    data = match_classes(classifier, data)
    summary = summarise(classifier, name)
    subject = identity(summary, data, spec)
    if spec.images is not None:
        data = data.take(data.stratified(spec.images, spec.seed))
    check_radius(spec.threat, data)
    evaluator = Evaluator(classifier, data, device=device, batch_size=spec.batch_size, seed=spec.seed)
    with room_for(spec.batch_size):
        sample = torch.randperm(len(data), generator=torch.Generator().manual_seed(spec.seed))[
            : min(_SAMPLE, max(2, spec.batch_size))
        ]
        x, y = evaluator.pixels(sample), data.labels[sample].to(device)
        evaluator.predict(x, y)
        warnings = reliability.examine(classifier, x, y, spec.threat)
    with Ledger(ledger, subject, keep=compute) as verdicts:
        evaluation, attack_rows = evaluate(
            evaluator, spec.threat, spec.attacks, progress or NoProgress(), verdicts, compute=compute
        )
    column = (len(spec.attacks), spec.confidence)
    table = ClassTable(evaluation, data.class_names, *column)
    rows = table.rows()
    warnings = (
        *examine_data(data, classifier.spec.class_names),
        *reliability.examine_predictions(evaluation, data.class_names),
        *warnings,
        *reliability.examine_attacks(spec.attacks, attack_rows, len(data)),
        *reliability.examine_images(data, spec.threat, trained_on),
        *reliability.few_images(rows),
    )
    report = AuditReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        seconds=time.monotonic() - begun,
        classifier=summary,
        dataset=data.summary(),
        spec=spec,
        warnings=warnings,
        classes=rows,
        clean=table.spread(table.clean),
        robust=table.spread(table.robust),
        groups=tuple(
            group_table(grouping.column, ClassTable(evaluation, grouping.names, *column, grouping.members))
            for grouping in data.groups
        ),
        attacks=attack_rows,
        confusion=table.confusion(),
        adversarial_sha256=hashlib.sha256("\n".join(evaluation.sha256).encode()).hexdigest(),
        provenance=provenance(device),
        gallery=gallery(data, evaluation, attack_rows),
    )
    return Audited(report, evaluation)


def identity(classifier: ClassifierSummary, data: LabelledImages, spec: AuditSpec) -> str:
    """A digest of what is judged, on what and how: a ledger's verdicts count for that alone."""
    network = classifier.spec.model_dump_json(exclude={"class_names"})
    parts = [PRODUCT, classifier.sha256, network, data.sha256, spec.model_dump_json(exclude={"confidence"})]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def summarise(classifier: Classifier, name: str) -> ClassifierSummary:
    """What a report says of the classifier."""
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    return ClassifierSummary(name=name, spec=classifier.spec, parameters=parameters, sha256=weights.digest(classifier))
