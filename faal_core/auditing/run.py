"""Run an audit: from images to the report with per-class accuracy, clean and attacked, and a statistical verdict."""

import hashlib
import time
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faal_core import weights
from faal_core.auditing import reliability
from faal_core.auditing.adversarial import AdversarialImages
from faal_core.auditing.escalation import choose_classifier
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.findings import AuditAttacks, Findings
from faal_core.auditing.gallery import build_gallery
from faal_core.auditing.parallelism import choose_batch_size
from faal_core.auditing.processes import Executors
from faal_core.auditing.provenance import describe_provenance
from faal_core.auditing.result import AuditResult
from faal_core.auditing.sources import Source, prepare_sources
from faal_core.auditing.suitability import check_network
from faal_core.classifier import Classifier
from faal_core.datasets.data_warnings import examine_data
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_radius, match_classes
from faal_core.devices import full_float32, require_room
from faal_core.errors import InvalidSpec
from faal_core.progress import NoProgress, Progress
from faal_core.results.class_table import ClassTable, build_group_table
from faal_core.results.documents import PRODUCT, AuditReport, ClassifierSummary
from faal_core.results.ledger import BatchResult, Ledger, compute_identity
from faal_core.results.outcomes import Outcomes
from faal_core.specs import AuditSpec

_SAMPLE = 64  # images that the reliability checks use: enough for their thresholds, a small part of an audit's cost
_RANDOM_IMAGES = 4  # whose outputs tell networks of own code apart


def run_audit(
    classifier: Classifier,
    data: LabelledImages,
    spec: AuditSpec,
    *,
    name: str,
    device: torch.device,
    ledger: Path | None = None,
    compute: bool = True,
    progress: Progress | None = None,
    trained_on: AbstractSet[bytes] = frozenset(),
    known_results: Iterable[BatchResult] = (),
    keep_adversarial: bool | Path = False,
    paired_codes: Collection[str] = (),
    sources: Sequence[Source] = (),
    executors: Executors | None = None,
) -> AuditResult:
    """Audit `classifier`, called `name` in the report, on `data` or on the part of it that the spec asks for.

    The same arguments give the same report, times apart, where docs/explanation/claims.md says so. When `progress` has no
    time left, the audit stops, reports the results so far, and lists what is missing.

    Args:
        ledger: file that stores every finished batch at once; a killed audit resumes from it.
        compute: whether to compute what the ledger lacks; otherwise the report covers the ledger's batches alone.
        trained_on: `reliability.digest_pixels` of the training images, where they are known; the report warns of audited
            images that are among them.
        known_results: those of another audit of the same classifier and images, which are not computed again: its clean
            predictions, or all of them if it had the same spec.
        keep_adversarial: whether the result holds the adversarial images; a path ending in .npy names their file.
        paired_codes: codes of the warnings of an audit with which this one is compared: it escalates as if it had them, too.
        sources: networks that attacks of the spec name, and whose gradients attacks follow after warnings, too.
        executors: open what computes; processes of this machine when absent, as many as a short measurement says.
    Raises: InvalidSpec where classifier and data do not fit, or the radius exceeds the largest distance of two images;
        LedgerMismatch where the file belongs to another audit; ClassifierUnsuitable, OutOfMemory; Cancelled; OSError.
    """
    start = time.monotonic()
    data = match_classes(classifier, data)
    check_network(classifier)
    summary = summarise(classifier, name)
    audited_rows = torch.arange(len(data)) if spec.images is None else data.stratified(spec.images, spec.seed)
    if spec.images is not None:
        data = data.take(audited_rows)
    identity = compute_identity(PRODUCT, summary, data.sha256, spec)
    check_radius(spec.threat, data)
    evaluator = Evaluator(
        classifier,
        data,
        device=device,
        batch_size=spec.batch_size,
        seed=spec.seed,
        sources=prepare_sources(sources, data, device),
    )
    progress = progress or NoProgress()
    with require_room(spec.batch_size), full_float32():
        sample = torch.randperm(len(data), generator=torch.Generator().manual_seed(spec.seed))[
            : min(_SAMPLE, max(2, spec.batch_size))
        ]
        x, y = evaluator.pixels(sample), data.labels[sample].to(device)
        evaluator.predict(x, y)
        outputs = _compute_outputs(classifier, x.shape[1:]) if ledger else ()
        checks = choose_classifier(classifier, x, y, spec, paired_codes)
        evaluator.classifier = checks.classifier
    if keep_adversarial and spec.sequential:
        raise InvalidSpec(
            "A sequential audit cannot keep adversarial images. Leave out --save-adversarial (`keep_adversarial`), or "
            "--decide-worst (`sequential`)."
        )
    size = choose_batch_size(evaluator)
    with Ledger(ledger, identity, outputs=outputs, keep=compute, batch_size=size) as batches:
        adversarial = None
        if keep_adversarial:
            path = keep_adversarial if isinstance(keep_adversarial, Path) else None
            adversarial, evaluator.keeps_adversarial = AdversarialImages(data, path, list(batches)), True
        for result in known_results:
            if compute and batches.find(result.attack, result.run, result.rows) is None:
                batches.add(result)
        executors = executors or Executors()
        executors = executors if compute else executors.with_processes(1)
        attacked = AuditAttacks(evaluator, spec, checks, batches, progress, executors, adversarial, compute=compute)
        findings = attacked.run(paired_codes, [source.network for source in sources])
    if findings.rows is not None:
        data, audited_rows = data.take(findings.rows), audited_rows[findings.rows]
    provenance = describe_provenance(device, executors.count if compute else None)
    outcomes = Outcomes(
        findings.evaluation,
        rows=audited_rows.numpy(),
        groups={
            grouping.column: tuple(grouping.names[member] for member in grouping.members) for grouping in data.groups
        },
    )
    report = AuditReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        seconds=time.monotonic() - start,
        resumed=batches.resumed,
        classifier=summary,
        dataset=data.summarise(),
        spec=spec,
        provenance=provenance,
        outcomes_sha256=outcomes.sha256,
        **_summarise_findings(findings, classifier, data, spec, trained_on),
    )
    return AuditResult(
        report,
        outcomes,
        batch_results=tuple(batches),
        adversarial_images=None if adversarial is None else adversarial.to_tensor(),
    )


def _summarise_findings(
    findings: Findings,
    classifier: Classifier,
    data: LabelledImages,
    spec: AuditSpec,
    trained_on: AbstractSet[bytes],
) -> dict[str, Any]:
    """Return the report's fields that follow from the findings.

    Args:
        data: the audited images.
    """
    evaluation, column = findings.evaluation, (len(findings.attacks), spec.confidence)
    available = np.array([one.available for one in findings.sequential.classes]) if findings.sequential else None
    table = ClassTable(evaluation, data.class_names, *column, available=available)
    rows = table.build_rows()
    warnings = (
        *examine_data(data, classifier.spec.class_names),
        *reliability.examine_predictions(evaluation, data.class_names),
        *findings.warnings,
        *reliability.examine_images(data, spec.threat, trained_on),
        *reliability.check_class_sizes(rows),
    )
    return {
        "warnings": warnings,
        "escalation": findings.escalation,
        "classes": rows,
        "clean": table.build_spread(table.clean),
        "robust": table.build_spread(table.robust),
        "groups": tuple(
            build_group_table(grouping.column, ClassTable(evaluation, grouping.names, *column, grouping.members))
            for grouping in (data.groups if findings.sequential is None else ())
        ),
        "sequential": findings.sequential,
        "attacks": findings.attacks,
        "confusion": table.count_confusions(),
        "adversarial_sha256": hashlib.sha256("\n".join(evaluation.sha256).encode()).hexdigest(),
        "gallery": build_gallery(data, evaluation, findings.attacks),
    }


@torch.no_grad()
def _compute_outputs(classifier: Classifier, shape: torch.Size) -> tuple[float, ...]:
    """Return the logits of a few random images of that shape; nothing for a network of the catalog.

    Names and weights do not determine the logits of own code: its source and attributes may have changed.
    """
    if not classifier.spec.needs_own_code:
        return ()
    x = torch.rand(_RANDOM_IMAGES, *shape, generator=torch.Generator().manual_seed(0)).to(classifier.device)
    is_on_gpu = x.device.type == "cuda"
    with torch.random.fork_rng([x.device] if is_on_gpu else []):
        torch.default_generator.manual_seed(0)  # for networks with random outputs
        if is_on_gpu:
            with torch.cuda.device(x.device):
                torch.cuda.manual_seed(0)
        logits = classifier(classifier.lay_out(x))
    return tuple(float(f"{logit:.6g}") for logit in logits.reshape(-1).tolist())


def summarise(classifier: Classifier, name: str) -> ClassifierSummary:
    """Return the report's description of the classifier."""
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    return ClassifierSummary(name=name, spec=classifier.spec, parameters=parameters, sha256=weights.digest(classifier))
