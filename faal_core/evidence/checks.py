"""Check the files of a pack against each other. Each check returns its result, or raises the reason for which it fails."""

import hashlib

import numpy as np

from faal_core import __version__
from faal_core.evidence import page, strict_json
from faal_core.evidence.adversarial_file import iterate_images
from faal_core.evidence.approval import UNCONFIRMED
from faal_core.evidence.audit_time import describe_order, is_before_audit
from faal_core.evidence.batches import BatchLines, replay
from faal_core.evidence.contents import ADVERSARIAL, BATCHES, ENVIRONMENT, GATE, PAGE, PDF, SPEC, Contents
from faal_core.evidence.gate_file import AS_STATED, can_judge, judge_report, list_changes, list_stated_changes
from faal_core.evidence.keys import PublicKey
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import Check, PolicySignature
from faal_core.evidence.sealed_statement import SealedStatement
from faal_core.evidence.statement import describe_pack
from faal_core.evidence.statistics_check import list_unsupported
from faal_core.reports import wording
from faal_core.results.documents import PRODUCT, AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.ledger import compute_identity

LISTED = 20  # most details of a check
_CHUNK = 2**20


def measure_digests(contents: Contents) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    digests = {}
    for name, member in contents.members.items():
        digest = hashlib.sha256()
        with member.open() as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        digests[name] = digest.hexdigest()
    return digests


def check_signature(sealed: SealedStatement, public_key: PublicKey | None) -> Check:
    """Check the signature of the statement, and that it is of `public_key` where this is given. Raises: PackRefused."""
    sealed.require_signature()
    if sealed.key is None:
        if public_key is not None:
            raise PackRefused("The pack is not signed, and a public key was given.")
        return Check(name="signature", status="not-checked", sentence="The pack is not signed: nobody vouches for it.")
    if public_key is None:
        sentence = f"The signature is valid for the key {sealed.key.key_id}. Pass its public key to check whose it is."
        return Check(name="signature", status="passed", sentence=sentence)
    if sealed.key.key_id != public_key.key_id:
        raise PackRefused(
            f"The pack was signed with the key {sealed.key.key_id}, not with the given key {public_key.key_id}."
        )
    return Check(
        name="signature", status="passed", sentence=f"The pack was signed with the given key {public_key.key_id}."
    )


def check_digests(digests: dict[str, str], sealed: SealedStatement) -> Check:
    """Check that the statement names each file, with its digest. Raises: PackRefused."""
    stated = sealed.digests
    if unnamed := sorted(digests.keys() ^ stated.keys()):
        raise PackRefused(
            f"The files of the pack are not those of its statement: {unnamed[0]!r} is in one of them alone."
        )
    if changed := sorted(name for name in digests if digests[name] != stated[name]):
        raise PackRefused(f"{changed[0]} was changed: it has another SHA-256 than the statement names.")
    return Check(
        name="digests", status="passed", sentence=f"All {len(digests)} files have the SHA-256 that the statement names."
    )


def check_outcomes(contents: Contents) -> Check:
    """Check that the outcomes are those of the report, and agree with each other. Raises: PackRefused."""
    images = sum(len(outcomes.rows) for outcomes in contents.outcomes.values())
    sentence = f"The outcomes of {images:,} images agree with each other and with the digest in the report."
    return Check(name="outcomes", status="passed", sentence=sentence)


def check_policy(contents: Contents, policy_key: PublicKey | None) -> Check:
    """Check the signature of the policy, and that it is of `policy_key` where this is given. Raises: PackRefused."""
    approval, signature = contents.approval, summarise_approval(contents, policy_key)
    if approval is None or signature is None:
        if policy_key is not None:
            raise PackRefused("The policy is not signed, and a public key for it was given.")
        missing = "The policy is not signed." if contents.policy_name else "The pack has no policy."
        return Check(name="policy", status="not-checked", sentence=missing)
    if policy_key is not None and approval.key.key_id != policy_key.key_id:
        raise PackRefused(
            f"The policy was signed with the key {approval.key.key_id}, not with the given key {policy_key.key_id}."
        )
    order = describe_order(contents, approval.claimed_at)
    trust = "" if policy_key else f" Whose key it is was not checked. {UNCONFIRMED}"
    sentence = (
        f"The policy was signed with the key {approval.key.key_id}, as its signer states at {approval.claimed_at:%Y-%m-%d %H:%M} "
        f"UTC, {order}.{trust}"
    )
    return Check(name="policy", status="passed", sentence=sentence)


def summarise_approval(contents: Contents, policy_key: PublicKey | None) -> PolicySignature | None:
    """Return who signed the policy, and whether before the audit. Raises: PackRefused where the signature is not valid."""
    approval = contents.approval
    if approval is None:
        return None
    return PolicySignature(
        key_id=approval.key.key_id,
        signer=approval.signer,
        claimed_at=approval.claimed_at,
        before_audit=is_before_audit(contents, approval.claimed_at),
        trusted=policy_key is not None and approval.key.key_id == policy_key.key_id,
    )


def check_statement(contents: Contents, digests: dict[str, str], sealed: SealedStatement) -> Check:
    """Check that the statement, with its Merkle roots, is the one that follows from the files. Raises: PackRefused."""
    if describe_pack(contents, digests, sealed.claim) != sealed.statement:
        raise PackRefused(
            "The statement says something that does not follow from the files, such as another Merkle root."
        )
    spec = strict_json.decode(contents.read(SPEC), SPEC)
    if spec != contents.report.spec.model_dump(mode="json"):
        raise PackRefused(f"{SPEC} is not the spec in the report.")
    sentence = "The statement, with its Merkle roots, follows from the files."
    return Check(name="statement", status="passed", sentence=sentence)


def check_statistics(contents: Contents) -> Check:
    """Check the statistics of the report against the outcomes."""
    differences = list_unsupported(contents.report, contents.audits, contents.outcomes)
    if differences:
        sentence = f"{len(differences):,} numbers of the report do not follow from the outcomes."
        return Check(name="statistics", status="failed", sentence=sentence, details=tuple(differences[:LISTED]))
    others = ["warnings", "costs"]
    if contents.batches is None:
        others.append("whether the attacks tried all images")
    if isinstance(contents.report, FinetuneReport):
        others.append("the course of the training")
    sentence = (
        "All rates, intervals, verdicts and confusions follow from the outcomes. "
        f"Not computed again: {', '.join(others)}."
    )
    return Check(name="statistics", status="passed", sentence=sentence)


def check_batches(contents: Contents) -> Check:
    """Check that the ledger is of the audit, and that the outcomes follow from its batches. Raises: PackRefused."""
    batches = contents.batches
    if batches is None:
        return Check(name="batches", status="not-checked", sentence="The pack has no results of batches.")
    if len(contents.audits) > 1:
        raise PackRefused(f"The pack has {BATCHES}, and the report is of a fine-tuning.")
    (outcomes,) = contents.outcomes.values()
    audited, stored = contents.audited, outcomes.evaluation
    not_checked = _check_identity(batches, audited)
    again, counts = replay(batches, stored.labels, audited)
    arrays = ("clean", "attacked", "broken_by", "distance", "clean_margin", "margin")
    changed = [name for name in arrays if not np.array_equal(getattr(again, name), getattr(stored, name))]
    if changed or again.sha256 != stored.sha256:
        raise PackRefused("The outcomes do not follow from the results of the batches.")
    for number, (attack, count) in enumerate(zip(audited.attacks, counts, strict=False)):
        if (attack.tried, attack.untried) != (count.tried, count.untried):
            raise PackRefused(
                f"attacks[{number}] does not follow from the results of the batches: {count.untried:,} of {count.tried:,} images "
                "were left untried."
            )
    sentence = f"The outcomes follow from the results of {len(batches.lines):,} batches.{not_checked}"
    return Check(name="batches", status="passed", sentence=sentence)


def _check_identity(batches: BatchLines, audited: AuditReport) -> str:
    """Check that the ledger names the audit, and return a sentence if another version wrote it. Raises: PackRefused."""
    if audited.product != PRODUCT:  # which may write the same spec with other fields
        version = wording.sanitise(audited.product)[:40]
        return (
            f" {version} wrote the report, and this is {PRODUCT}: whether the ledger names this audit was not checked."
        )
    if batches.identity != compute_identity(PRODUCT, audited.classifier, audited.dataset.sha256, audited.spec):
        raise PackRefused(
            "The ledger is of another audit: its weights, images, attacks or settings are not those of the report."
        )
    return ""


def check_adversarial(contents: Contents) -> Check:
    """Check that the adversarial images are those that the outcomes name. Raises: PackRefused."""
    if (member := contents.members.get(ADVERSARIAL)) is None:
        return Check(name="adversarial", status="not-checked", sentence="The pack has no adversarial images.")
    outcomes = list(contents.outcomes.values())[-1]
    images = sum(len(chunk.pixels) for chunk in iterate_images(member, contents.audited, outcomes))
    broken = sum(map(bool, outcomes.evaluation.sha256))
    sentence = f"Of {images:,} adversarial images, the {broken:,} that broke an image are those that the outcomes name."
    return Check(name="adversarial", status="passed", sentence=sentence)


def check_gate(contents: Contents) -> Check:
    """Check the result of the gate: the policy is evaluated again. Raises: PackRefused."""
    gate, policy = contents.gate, contents.policy
    if gate is None or policy is None:
        return Check(name="gate", status="not-checked", sentence="The pack has no result of a gate.")
    if not can_judge(policy, contents.report):
        if changes := list_stated_changes(gate, policy, contents.audited):
            sentence = f"{GATE} is not a result of the policy: its parts contradict each other, or the report."
            return Check(name="gate", status="failed", sentence=sentence, details=tuple(changes[:LISTED]))
        sentence = (
            f"The policy's result is {gate.status}, {AS_STATED}. Requirements on scope and rates were evaluated again."
        )
        return Check(name="gate", status="not-checked", sentence=sentence)
    if changes := list_changes(gate, judge_report(policy, contents.report)):
        sentence = f"{GATE} is not the result of the policy: it was evaluated again."
        return Check(name="gate", status="failed", sentence=sentence, details=tuple(changes[:LISTED]))
    return Check(
        name="gate", status="passed", sentence=f"The policy was evaluated again, with the same result: {gate.status}."
    )


def check_page(contents: Contents, digests: dict[str, str], sealed: SealedStatement) -> Check:
    """Check that the page shows the files of the pack. Raises: PackRefused."""
    environment = strict_json.decode(contents.read(ENVIRONMENT), ENVIRONMENT)
    version = environment.get("faal") if isinstance(environment, dict) else None
    if version != __version__:
        sentence = (
            f"{PAGE} was written by FAAL {str(version)[:20]}, and this is FAAL {__version__}: it was not written again."
        )
        return Check(name="page", status="not-checked", sentence=sentence)
    files = {name: digest for name, digest in digests.items() if name not in (PAGE, PDF)}
    expected = page.render_page(contents, files, sealed.key, sealed.claim.name if sealed.claim else None)
    if expected != contents.read(PAGE):
        raise PackRefused(f"{PAGE} is not the page of these files.")
    return Check(name="page", status="passed", sentence=f"{PAGE} shows these files and no others.")
