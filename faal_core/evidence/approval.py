"""Sign a policy before the audit runs, and read such a signature back."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from faal_core.errors import InvalidSpec
from faal_core.evidence import envelope, strict_json
from faal_core.evidence.gate_file import read_policy
from faal_core.evidence.keys import PublicKey, Signer, parse_public_key
from faal_core.evidence.refusal import PackRefused

PREDICATE_TYPE = "urn:faal:policy-approval:v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
UNCONFIRMED = "The signature of the pack does not confirm who signed the policy."
"""Says of a policy in a pack that its signer may be anyone, also where the signer of the pack is known."""


@dataclass(frozen=True, eq=False)
class Approval:
    """Says who signed a policy, and when, as the signer states it.

    Args:
        signer: name and role as the signer states them; None where they are not stated.
    """

    key: PublicKey
    signer: str | None
    claimed_at: datetime


def sign_policy(policy: bytes, name: str, signer: Signer, claimed_at: datetime) -> bytes:
    """Return the envelope of a statement that binds the policy's digest: the file that `write_pack` takes.

    Args:
        policy: content of the policy's file.
        name: name of that file: one that ends in .json has JSON, any other YAML.
        claimed_at: time of signing; the signature does not prove it.
    Raises: InvalidSpec if the file is no policy, or an extra is missing.
    """
    try:
        read_policy(policy, name)
    except PackRefused as error:
        raise InvalidSpec(str(error)) from None
    return envelope.seal(_describe(policy, name, signer.public_key, signer.name, claimed_at), signer)


def read_approval(content: bytes, policy: bytes, name: str) -> Approval:
    """Return the approval in the envelope after checking its signature. The key is the one that the statement names.

    Raises: PackRefused if the signature is not valid or is of another policy.
    """
    statement, payload, signatures = envelope.open_envelope(content, name)
    try:
        key = parse_public_key(statement["predicate"]["publicKey"])
        signer, time = statement["predicate"]["signer"], statement["predicate"]["claimedAt"]
        claimed_at = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        file = str(statement["subject"][0]["name"])
    except (KeyError, IndexError, TypeError, ValueError, InvalidSpec):
        raise PackRefused(f"{name} is no signature of a policy.") from None
    if not strict_json.is_name(signer):
        raise PackRefused(f"{name} is no signature of a policy.")
    envelope.check_signature(payload, signatures, key, name)
    if statement != _describe(policy, file, key, signer, claimed_at):
        raise PackRefused(f"{name} signs another policy than the one in the pack.")
    return Approval(key, signer, claimed_at)


def _describe(policy: bytes, name: str, key: PublicKey, signer: str | None, claimed_at: datetime) -> dict[str, object]:
    time = f"{claimed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256(policy).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"claimedAt": time, "publicKey": key.pem, "signer": signer},
    }
