"""List the settings of a report as flat fields, and describe its state: for the parameters and tags of other tools."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from faal_core.reports.text import sanitise, warnings
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import newest_audit
from faal_core.threat_model import format_radius

SourceReport = AuditReport | FinetuneReport
Facts = dict[str, str | int | float | bool]


def list_facts(reports: Sequence[SourceReport]) -> Facts:
    """Return the settings that a tool compares runs by: classifier, data, threat model and attacks; a fine-tuning's settings too.

    Args:
        reports: one report, or audits that differ in the radius alone.
    """
    report, audit = reports[-1], newest_audit(reports[-1])
    facts: Mapping[str, object] = {
        "kind": report.kind,
        "classifier": sanitise(audit.classifier.name),
        "classifier_sha256": audit.classifier.sha256,
        "architecture": sanitise(audit.classifier.spec.architecture),
        "parameters": audit.classifier.parameters,
        "dataset": sanitise(audit.dataset.name),
        "dataset_part": audit.dataset.part,
        "dataset_sha256": audit.dataset.sha256,
        "images": audit.dataset.images,
        "classes": len(audit.classes),
        "norm": audit.spec.threat.norm.value,
        "epsilon": ", ".join(format_radius(newest_audit(one).spec.threat.epsilon) for one in reports),
        "attacks": ", ".join(sanitise(attack.name) for attack in audit.attacks),
        "preset": audit.spec.preset,
        "confidence": audit.spec.confidence,
        "seed": audit.spec.seed,
    }
    if isinstance(report, FinetuneReport):
        facts = {
            **facts,
            "classifier_sha256_before": report.before.classifier.sha256,
            "training_dataset": sanitise(report.training_dataset.name),
            "training_dataset_sha256": report.training_dataset.sha256,
            "selected_epoch": report.selected_epoch,
            "selected_interpolation": report.selected_interpolation,
            "selected_offset_scale": report.selected_offset_scale,
            **_flatten("method", report.spec.method.model_dump(mode="json")),
            **_flatten("training", report.spec.training.model_dump(mode="json")),
        }
    return {name: value for name, value in facts.items() if isinstance(value, str | int | float)}


def list_states(reports: Sequence[SourceReport]) -> dict[str, str]:
    """Return the conclusions that a tool filters runs by: completeness, warnings, worst class, outcome, digests and ids."""
    report = reports[-1]
    audit = newest_audit(report)
    codes = sorted({warning.code for one in reports for _, warning in warnings(one)})
    states = {
        "product": report.product,
        "complete": str(all(newest_audit(one).complete for one in reports)).lower(),
        "first_look": str(audit.first_look).lower(),
        "warnings": ", ".join(codes) or "none",
        "worst_class": sanitise(audit.robust.worst_class),
        "verdict": audit.robust.verdict,
        "adversarial_sha256": audit.adversarial_sha256,
        "outcomes_sha256": audit.outcomes_sha256,
    }
    if isinstance(report, FinetuneReport):
        states["outcome"] = report.outcome
    if audit.provenance:
        states |= {"device": sanitise(audit.provenance.device), "torch": audit.provenance.torch}
        states |= {"job_id": audit.provenance.job_id or "", "model_id": audit.provenance.model_id or ""}
    return {name: value for name, value in states.items() if value}


def _flatten(prefix: str, value: Any) -> Facts:  # noqa: ANN401 - JSON
    """Return the fields of an object under dotted names; a list as its JSON."""
    if isinstance(value, dict):
        return {name: part for key, inner in value.items() for name, part in _flatten(f"{prefix}.{key}", inner).items()}
    if value is None:
        return {}
    return {prefix: json.dumps(value) if isinstance(value, list) else value}
