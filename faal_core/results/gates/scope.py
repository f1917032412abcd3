"""Check what was audited against the scope of a policy."""

from collections.abc import Iterator

from faal_core import catalog
from faal_core.results.documents import AuditReport
from faal_core.results.gates.documents import RequirementResult
from faal_core.specs import AuditSpec, Scope
from faal_core.specs.policy import STRENGTH
from faal_core.threat_model import format_radius

_ROUNDING = 1e-9  # relative difference of two radii that are the same fraction, written in two ways


def judge_scope(scope: Scope, report: AuditReport) -> Iterator[RequirementResult]:
    """Yield the result of each field of the scope that is set."""
    threat = report.spec.threat
    if scope.norm is not None:
        yield _judge("norm", scope.norm, threat.norm, threat.norm is scope.norm)
    if scope.epsilon is not None:
        large_enough = threat.epsilon >= scope.epsilon * (1 - _ROUNDING)
        yield _judge("epsilon", format_radius(scope.epsilon), format_radius(threat.epsilon), large_enough, "at least ")
    if scope.attacks is not None:
        strongest = next((name for name in reversed(STRENGTH) if _has_all(report.spec, name)), "no full preset")
        made = strongest if report.complete else f"{strongest}, not finished"
        strong_enough = report.complete and _is_as_strong(report.spec, scope.attacks)
        yield _judge("attacks", scope.attacks, made, strong_enough, "at least as strong as the preset ")
    if scope.dataset_sha256 is not None:
        sha256 = report.sequential.available_sha256 if report.sequential else report.dataset.sha256
        yield _judge("dataset_sha256", scope.dataset_sha256, sha256, sha256 == scope.dataset_sha256)
    if scope.model_sha256 is not None:
        sha256 = report.classifier.sha256
        yield _judge("model_sha256", scope.model_sha256, sha256, sha256 == scope.model_sha256)


def _judge(field: str, limit: str, value: str, holds: bool, relation: str = "") -> RequirementResult:
    sentence = f"The policy requires {field} {relation}{limit}; the audit has {value}."
    return RequirementResult(
        name=f"scope.{field}",
        limit=str(limit),
        value=str(value),
        status="pass" if holds else "fail",
        sentence=sentence,
    )


def _is_as_strong(spec: AuditSpec, preset: str) -> bool:
    """Return whether the audit has all attacks of the preset, or all of a stronger one; further attacks only help."""
    return any(_has_all(spec, name) for name in STRENGTH[STRENGTH.index(preset) :])


def _has_all(spec: AuditSpec, preset: str) -> bool:
    """Return whether the audit has all attacks of the preset."""
    needed = AuditSpec(threat=spec.threat, attacks=catalog.PRESETS[preset].attacks).attacks
    return all(attack in spec.attacks for attack in needed)
