"""Build the statement of a pack from its contents: an in-toto statement with the test-result predicate.

The statement has no fact of its own but the signer's name. A reader builds it again from the files and compares.
Sources: in-toto Statement v1 and test-result v0.1 (github.com/in-toto/attestation).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from faal_core.evidence import merkle, strict_json
from faal_core.evidence.approval import STATEMENT_TYPE, UNCONFIRMED
from faal_core.evidence.contents import BATCHES, SPEC, Contents
from faal_core.evidence.gate_file import AS_STATED, can_judge, is_of_baseline, name_requirement
from faal_core.evidence.keys import Signer
from faal_core.results.outcomes import Outcomes

PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
NO_POLICY = "no-policy"
"""Names the test that warns in a pack without the result of a gate: no limit was set, so none was met."""
_RESULTS = {"pass": "PASSED", "undecided": "WARNED", "fail": "FAILED"}


@dataclass(frozen=True)
class SignerClaim:
    """Names the signer of a pack.

    Args:
        public_key: the key in PEM.
        name: name and role as the signer states them; None where they are not stated.
    """

    public_key: str
    name: str | None

    @classmethod
    def from_signer(cls, signer: Signer) -> "SignerClaim":
        """Return what the statement says about the signer."""
        return cls(signer.public_key.pem, signer.name)


def describe_pack(contents: Contents, digests: Mapping[str, str], signer: SignerClaim | None) -> dict[str, object]:
    """Return the statement of the pack.

    Args:
        digests: SHA-256 of each file but the statement.
    """
    audited, policy, approval = contents.audited, contents.policy_name, contents.approval
    weights = {"name": "weights", "digest": {"faalWeightsSha256": audited.classifier.sha256}}
    images = {"name": "images and labels", "digest": {"faalImagesSha256": audited.dataset.sha256}}
    files = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
    configuration = [file for file in files if file["name"] in (SPEC, policy)]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [weights, *files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            **_list_tests(contents),
            "configuration": [*configuration, images],
            "faal": {
                "version": 1,
                "audits": [
                    {
                        "outcomes": name,
                        "images": len(outcomes.rows),
                        "weightsSha256": contents.audits[name].classifier.sha256,
                        "imagesSha256": contents.audits[name].dataset.sha256,
                        "adversarialSha256": contents.audits[name].adversarial_sha256,
                        "merkleRoot": merkle.compute_root(encode_rows(outcomes)),
                    }
                    for name, outcomes in contents.outcomes.items()
                ],
                "batches": None
                if contents.batches is None
                else {
                    "file": BATCHES,
                    "batches": len(contents.batches.lines),
                    "merkleRoot": merkle.compute_root(contents.batches.lines),
                },
                "policy": None
                if policy is None
                else {
                    "file": policy,
                    "signedBy": None if approval is None else approval.key.key_id,
                    "claimedAt": None if approval is None else f"{approval.claimed_at:%Y-%m-%dT%H:%M:%SZ}",
                    "note": None if approval is None else UNCONFIRMED,
                    "result": AS_STATED if contents.gate and _is_stated(contents) else None,
                },
                "signer": None if signer is None else {"name": signer.name, "publicKey": signer.public_key},
            },
        },
    }


def _is_stated(contents: Contents) -> bool:
    """Return whether the pack lacks what the policy needs, so that its result is only stated."""
    return contents.policy is not None and not can_judge(contents.policy, contents.report)


def name_result(contents: Contents) -> str:
    """Return the result that the statement records: PASSED, WARNED or FAILED."""
    gate = contents.gate
    if gate is None:
        return "WARNED"
    if not gate.passed:
        return "FAILED"
    return "WARNED" if _is_stated(contents) else _RESULTS[gate.status]


def _list_tests(contents: Contents) -> dict[str, object]:
    """Return the result of the gate in the words of the predicate. A requirement that passes as stated warns."""
    gate = contents.gate
    if gate is None:
        return {"result": name_result(contents), "passedTests": [], "warnedTests": [NO_POLICY], "failedTests": []}
    is_stated = _is_stated(contents)
    titles: dict[str, list[str]] = {kind: [] for kind in _RESULTS}
    for one in gate.requirements:
        warns = one.status == "pass" and is_stated and is_of_baseline(one)
        titles["undecided" if warns else one.status].append(name_requirement(one))
    return {
        "result": name_result(contents),
        "passedTests": titles["pass"],
        "warnedTests": titles["undecided"],
        "failedTests": titles["fail"],
    }


def encode_rows(outcomes: Outcomes) -> Iterator[bytes]:
    """Yield the leaves of the Merkle tree: the outcome of each image as a JSON list.

    It has the image's place in the data set, label, clean prediction, prediction after the attacks, number of the attack that
    broke it (from 0, or −1), clean margin, margin, distance, SHA-256 of the adversarial image, and its groups in the order of
    their columns.
    """
    one = outcomes.evaluation
    numbers = (outcomes.rows, one.labels, one.clean, one.attacked, one.broken_by)
    measures = (one.clean_margin, one.margin, one.distance)
    columns = [values.tolist() for values in (*numbers, *measures)]
    for row in zip(*columns, one.sha256, *outcomes.groups.values(), strict=True):
        yield strict_json.encode(row)
