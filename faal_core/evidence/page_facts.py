"""Write the facts of a pack as sentences: its verdict, what was tested, what was found, what was not tested, and who signed."""

import math
from datetime import datetime

from faal_core.evidence.approval import UNCONFIRMED
from faal_core.evidence.audit_time import describe_order, find_times, has_unknown_start
from faal_core.evidence.contents import Contents
from faal_core.evidence.keys import PublicKey
from faal_core.evidence.page_verdict import describe_rules, judge
from faal_core.reports import text, wording
from faal_core.reports.audit_text import list_worst_classes, name_attacks
from faal_core.reports.strength_text import describe_restrictions, describe_strength
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.rate_text import percent
from faal_core.threat_model import Norm, ThreatModel

Facts = dict[str, list[str]]
_NO_NAME = "classifier"  # names nothing, such as the file classifier.safetensors
_OWN_DIGEST = "FAAL's own digest of their values and not of a file"
_DECISION_RULE = (
    "A requirement is met if the whole interval of the rate is on the right side of the limit. It is not met if the whole "
    "interval is on the wrong side. Otherwise it is undecided."
)


def collect_facts(contents: Contents, report_sha256: str, key: PublicKey | None, signer: str | None) -> Facts:
    """Return the facts by the names that the template and `sections.toml` use; a fact that is not known is an empty list.

    Args:
        report_sha256: SHA-256 of the report's file.
        key, signer: key of the pack's signature, and the signer's name as stated.
    """
    audit = contents.audited
    finetuned = isinstance(contents.report, FinetuneReport)
    verdict = judge(contents, signed=key is not None)
    return {
        "verdict": [verdict.sentence, *verdict.details],
        "conformity": _describe_conformity(contents),
        "requirements": [] if contents.gate is None else [one.sentence for one in contents.gate.requirements],
        "classifier": [_describe_classifier(audit)],
        "dataset": _describe_dataset(audit),
        "approach": _describe_approach(audit),
        "strength": describe_strength(audit),
        "sampling": [_describe_sampling(audit)],
        "findings": [*text.verdict(contents.report), *_explain_gap(audit), _describe_worst(audit)],
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
        "rules": describe_rules(contents),
        "policy": _describe_policy(contents),
        "signature": _describe_signature(key, signer),
    }


def _describe_classifier(audit: AuditReport) -> str:
    one = audit.classifier
    size = f"{one.parameters:,} parameters, {one.spec.num_classes} classes"
    name = (
        "The classifier, which has no other name in the report" if one.name == _NO_NAME else wording.sanitise(one.name)
    )
    return f"{name}: {one.spec.architecture}, {size}. SHA-256 of the weights, {_OWN_DIGEST}: {one.sha256}."


def _describe_dataset(audit: AuditReport) -> list[str]:
    one = audit.dataset
    size = f"{one.images:,} images of {' × '.join(map(str, one.shape))}, {len(audit.classes)} classes"
    identity = f"SHA-256 of the images and labels, {_OWN_DIGEST}: {one.sha256}."
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
    restricted = ", and one with a margin limit only some of these" if describe_restrictions(audit) else ""
    return [
        f"Perturbations of the pixels up to {audit.spec.threat}, for pixels in [0, 1]: {_explain_radius(audit.spec.threat)}.",
        f"The attacks run in their order. Each tries only images that are still robust{restricted}.",
        "An image is robust if it is classified correctly without an attack and after every attack.",
    ]


def _explain_radius(threat: ThreatModel) -> str:
    """Return in words what a perturbation may change."""
    if threat.norm is Norm.LINF:
        return f"each pixel may change by up to {100 * threat.epsilon:.3g} % of its range"
    return f"the changes of all pixels together have a Euclidean length of at most {threat.epsilon:.4g}"


def _describe_deviations(contents: Contents) -> list[str]:
    audit = contents.audited
    source = "As reported: " if contents.batches is None else ""
    if audit.complete:
        restrictions = describe_restrictions(audit)
        whole = "Every other attack" if restrictions else "every attack"
        none = f"{source}{'none' if source else 'None'}"
        tried = f"{whole} tried every image that was left for it."
        return [f"{none}. {restrictions[0]} {tried}" if restrictions else f"{none}: {tried}"]
    return [
        f"{source}{wording.sanitise(attack.name)} did not reach {attack.untried:,} of {attack.tried:,} images."
        for attack in audit.attacks
        if attack.untried
    ]


def _describe_conformity(contents: Contents) -> list[str]:
    """Return the remark that the pack states no conformity, unless the gate passed."""
    if contents.gate is not None and contents.gate.passed:
        return []
    return ["Not fulfilled by this pack: it states no conformity with limits."]


def _describe_sampling(audit: AuditReport) -> str:
    images = [row.images for row in audit.classes]
    count = f"{min(images):,}" if min(images) == max(images) else f"{min(images):,} to {max(images):,}"
    drawn = "drawn in proportion from each class" if audit.spec.images is not None else "all images of this part"
    return f"{audit.dataset.images:,} images, {count} of each class: {drawn} (seed {audit.spec.seed})."


def _explain_gap(audit: AuditReport) -> list[str]:
    """Return why classes can be unequal although the interval of the gap contains the gap by chance."""
    robust = audit.robust
    if not audit.complete or robust.verdict != "unequal" or robust.gap_by_chance is None:
        return []
    gap, chance = 100 * robust.gap.value, 100 * robust.gap_by_chance
    return [
        (
            f"Unequal answers a first question, by a test: the gap of {gap:.1f} points is larger than the {chance:.1f} points "
            "that equal classes show by chance. How large the true gap is, is a second question. Its interval is "
            f"{wording.bounds(robust.gap)} points. It follows from the joint intervals of all classes, so it is wide and can "
            "contain the gap by chance."
        )
    ]


def _describe_worst(audit: AuditReport) -> str:
    worst, tied = audit.robust.worst, len(list_worst_classes(audit))
    row = min(audit.classes, key=lambda one: one.robust.rate)
    at_most = "at most " if not audit.complete or audit.first_look else ""
    name = wording.write_name(row.name)
    place = f"{name}, one of {tied} equally robust classes" if tied > 1 else f"the worst class, {name}"
    counts = f"{at_most}{row.robust.count:,} of the {row.images:,} images of {place}, resist {name_attacks(audit)}"
    sentence = f"{counts[0].upper()}{counts[1:]} ({percent(worst.value)})."
    if not audit.complete:  # the interval covers the choice of the images, not attacks that were not finished
        return sentence
    low, high = math.floor(1000 * worst.low) / 10, math.ceil(1000 * worst.high) / 10
    return (
        f"{sentence} With {100 * audit.spec.confidence:g} % confidence the true rate of the worst class under these attacks is "
        f"between {low:.1f} % and {high:.1f} %."
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
    return [
        (
            f"{_name(one.signer)} states: these limits ({contents.policy_name}), and nothing about the classifier. The key is "
            f"{one.key.key_id}. {UNCONFIRMED}"
        ),
        (
            f"The limits were signed, as stated, on {one.claimed_at:%Y-%m-%d %H:%M} UTC, "
            f"{_describe_distance(contents, one.claimed_at)}. No "
            "independent clock confirms this time, so it excludes neither a wrong clock nor earlier audits."
        ),
    ]


def _describe_distance(contents: Contents, time: datetime) -> str:
    """Return the order of the time and the audit, with the minutes between them where the audit's start is known."""
    order = describe_order(contents, time)
    start, _ = find_times(contents.audited)
    minutes = round(abs((start - time).total_seconds()) / 60)
    if has_unknown_start(contents):
        return f"{order}, by the signers' own clocks"
    return f"{order}: {minutes:,} minutes by the signers' own clocks"


def _describe_signature(key: PublicKey | None, signer: str | None) -> list[str]:
    if key is None:
        return ["This pack has no signature. Its files agree with each other, and nobody vouches for them."]
    return [
        (
            f"{_name(signer)} states: these files and this result. The key is {key.key_id}. The pack does not prove whose key it "
            "is, and its signature has no date."
        )
    ]


def _name(signer: str | None) -> str:
    return "An unnamed signer" if signer is None else f"{wording.sanitise(signer)} (name as stated by the signer)"


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
