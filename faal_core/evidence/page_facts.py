"""Write the facts of a pack as sentences: its verdict, what was tested, what was found, what was not tested, and who signed."""

import math
from dataclasses import dataclass

from faal_core.evidence.audit_time import describe_order, find_times, has_unknown_start
from faal_core.evidence.contents import Contents
from faal_core.evidence.gate_file import AS_STATED, can_judge
from faal_core.evidence.keys import PublicKey
from faal_core.reports import text, wording
from faal_core.reports.audit_text import name_attacks, name_worst_class
from faal_core.reports.strength_text import describe_ensemble, describe_strength
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.documents import GateResult
from faal_core.threat_model import Norm

Facts = dict[str, list[str]]
_DECISION_RULE = (
    "A requirement is met if the whole interval of the rate is on the right side of the limit. It is not met if the whole "
    "interval is on the wrong side. Otherwise it is undecided."
)


@dataclass(frozen=True)
class Verdict:
    """Gives the verdict of a pack in words.

    Args:
        tone: class of the box that shows it.
    """

    tone: str
    sentence: str


def judge(contents: Contents) -> Verdict:
    """Return whether the audit meets the policy in the pack."""
    gate = contents.gate
    if gate is None:
        policy = "was not evaluated" if contents.policy_name else "is not part of this pack"
        return Verdict("mixed", f"No verdict: a policy with limits {policy}.")
    verdict = _describe_gate(gate)
    if contents.policy is None or can_judge(contents.policy, contents.report):
        return verdict
    tone = "mixed" if verdict.tone == "good" else verdict.tone
    return Verdict(tone, f"{verdict.sentence.removesuffix('.')}, {AS_STATED}.")


def _describe_gate(gate: GateResult) -> Verdict:
    """Return the result of the gate in words."""
    count = len(gate.requirements)
    if gate.status == "pass":
        all_met = (
            "the requirement of the policy is met" if count == 1 else f"all {count} requirements of the policy are met"
        )
        return Verdict("good", f"Passed: {all_met}.")
    failed = sum(one.status == "fail" for one in gate.requirements)
    open_ones = sum(one.status == "undecided" for one in gate.requirements)
    if gate.status == "fail":
        return Verdict("bad", f"Failed: {failed} of {count} requirements of the policy are not met.")
    rule = "the policy lets these pass" if gate.passed else "the policy lets none of these pass"
    return Verdict("mixed" if gate.passed else "bad", f"Undecided: {open_ones} of {count} requirements; {rule}.")


def collect_facts(contents: Contents, report_sha256: str, key: PublicKey | None, signer: str | None) -> Facts:
    """Return the facts by the names that the template and `sections.toml` use; a fact that is not known is an empty list.

    Args:
        report_sha256: SHA-256 of the report's file.
        key, signer: key of the pack's signature, and the signer's name as stated.
    """
    audit = contents.audited
    finetuned = isinstance(contents.report, FinetuneReport)
    return {
        "verdict": [judge(contents).sentence],
        "requirements": [] if contents.gate is None else [one.sentence for one in contents.gate.requirements],
        "classifier": [_describe_classifier(audit)],
        "dataset": _describe_dataset(audit),
        "approach": _describe_approach(audit),
        "method": [*_describe_approach(audit), describe_ensemble(audit)],
        "strength": describe_strength(audit),
        "scope": [*_describe_approach(audit)[:2], _describe_sampling(audit)],
        "sampling": [_describe_sampling(audit)],
        "findings": [*text.verdict(contents.report), _describe_worst(audit)],
        "groups": [_describe_groups(audit)] if audit.groups else [],
        "warnings": [
            f"{warning.code}: {warning.message} ({warning.evidence})" for _, warning in text.warnings(contents.report)
        ],
        "not_tested": list_untested(audit),
        "uncertainty": [_describe_uncertainty(audit)],
        "dates": [_describe_dates(contents)],
        "machine": _describe_machine(audit),
        "changes": text.verdict(contents.report) if finetuned else [],
        "identification": [f"Evidence of a per-class robustness audit. SHA-256 of report.json: {report_sha256}."],
        "only_items": ["The results relate only to these weights, these images, this radius and these attacks."],
        "deviations": _describe_deviations(contents),
        "decision_rule": [] if contents.gate is None else [_DECISION_RULE],
        "policy": _describe_policy(contents),
        "signature": _describe_signature(key, signer),
    }


def _describe_classifier(audit: AuditReport) -> str:
    one = audit.classifier
    size = f"{one.parameters:,} parameters, {one.spec.num_classes} classes"
    return f"{wording.sanitise(one.name)}: {one.spec.architecture}, {size}. SHA-256 of the weights: {one.sha256}."


def _describe_dataset(audit: AuditReport) -> list[str]:
    one = audit.dataset
    size = f"{one.images:,} images of {' × '.join(map(str, one.shape))}, {len(audit.classes)} classes"
    identity = f"SHA-256 of the images and labels: {one.sha256}."
    return [
        f"{wording.sanitise(one.name)}, {one.part} part: {size}. {identity}",
        *map(wording.sanitise, one.preparation),
    ]


def _describe_uncertainty(audit: AuditReport) -> str:
    return (
        f"Every rate has an interval with {100 * audit.spec.confidence:g} % confidence (Clopper–Pearson). The intervals of the "
        "classes hold together. They cover the choice of the images, not attacks that were not tried."
    )


def _describe_dates(contents: Contents) -> str:
    start, end = find_times(contents.audited)
    subject = "The last run of the audit was" if has_unknown_start(contents) else "The audit ran"
    return f"{subject} from about {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, by the clock of its machine."


def _describe_approach(audit: AuditReport) -> list[str]:
    attacks = ", ".join(wording.sanitise(attack.name) for attack in audit.attacks)
    return [
        f"Perturbations of the pixels up to {audit.spec.threat}, for pixels in [0, 1].",
        f"Attacks, each on the images that are still robust: {attacks}.",
        "An image is robust if it is classified correctly without an attack and after every attack.",
    ]


def _describe_deviations(contents: Contents) -> list[str]:
    audit = contents.audited
    source = "As reported: " if contents.batches is None else ""
    if audit.complete:
        return [f"{source}{'none' if source else 'None'}: every attack tried every image that was left for it."]
    return [
        f"{source}{wording.sanitise(attack.name)} did not reach {attack.untried:,} of {attack.tried:,} images."
        for attack in audit.attacks
        if attack.untried
    ]


def _describe_sampling(audit: AuditReport) -> str:
    images = [row.images for row in audit.classes]
    count = f"{min(images):,}" if min(images) == max(images) else f"{min(images):,} to {max(images):,}"
    drawn = "drawn in proportion from each class" if audit.spec.images is not None else "all images of this part"
    return f"{audit.dataset.images:,} images, {count} of each class: {drawn} (seed {audit.spec.seed})."


def _describe_worst(audit: AuditReport) -> str:
    worst = audit.robust.worst
    is_limit = not audit.complete or audit.first_look
    count = f"at most {math.ceil(100 * worst.value)}" if is_limit else f"{100 * worst.value:.0f}"
    sentence = f"Worst class ({name_worst_class(audit)}): {count} of 100 images resist {name_attacks(audit)}."
    if not audit.complete:  # the interval covers the choice of the images, not attacks that were not finished
        return sentence
    low, high = math.floor(100 * worst.low), math.ceil(100 * worst.high)
    return (
        f"{sentence} With {100 * audit.spec.confidence:g} % confidence the number under these attacks is between "
        f"{low} and {high} of 100."
    )


def _describe_groups(audit: AuditReport) -> str:
    columns = ", ".join(wording.sanitise(table.column) for table in audit.groups)
    return f"The report breaks the results down by these columns of groups: {columns}."


def _describe_machine(audit: AuditReport) -> list[str]:
    one = audit.provenance
    if one is None:
        return []
    device = f"{wording.sanitise(one.device)} ({one.instruction_set}, {one.threads} threads)"
    return [f"Audited with FAAL {one.faal} and PyTorch {one.torch} on {device}."]


def _describe_policy(contents: Contents) -> list[str]:
    one = contents.approval
    if contents.policy_name is None:
        return []
    if one is None:
        return [f"{contents.policy_name} has no signature of its own, so its time is not known."]
    order = describe_order(contents, one.claimed_at)
    when = f"as stated on {one.claimed_at:%Y-%m-%d %H:%M} UTC, {order}"
    key = f"{_name(one.signer)} with the key {one.key.key_id}"
    return [f"{contents.policy_name} was signed by {key}, {when}. No independent clock confirms this time."]


def _describe_signature(key: PublicKey | None, signer: str | None) -> list[str]:
    if key is None:
        return ["This pack has no signature. Its files agree with each other, and nobody vouches for them."]
    return [
        f"This pack was signed by {_name(signer)} with the key {key.key_id}. The pack does not prove whose key it is."
    ]


def _name(signer: str | None) -> str:
    return "an unnamed signer" if signer is None else f"{wording.sanitise(signer)} (name as stated by the signer)"


def list_untested(audit: AuditReport) -> list[str]:
    """Return what the audit says nothing about, in sentences."""
    other = "L2" if audit.spec.threat.norm is Norm.LINF else "L∞"
    lines = [
        f"Perturbations of another kind than {audit.spec.threat}: {other} and other norms, and larger radii.",
        "Attacks that are built against this classifier and its defences (adaptive attacks), and other stronger attacks.",
        "Changes that are not small perturbations of pixels: blur, noise, weather, rotation, patches, other objects.",
        "Images from elsewhere: other cameras, places, times or kinds of objects.",
        "Attacks on the training data, on the training, or on the software and machines around the classifier.",
        "The system around the classifier: detection of attacks, human oversight, and effects of a wrong answer.",
    ]
    if not audit.groups:
        lines.append("Differences between groups of people or of images, apart from the classes.")
    return lines
