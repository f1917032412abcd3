"""Open the statement of a pack: who signed it, as far as the pack itself says."""

from dataclasses import dataclass
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.evidence import envelope, strict_json
from faal_core.evidence.keys import PublicKey, parse_public_key, require_cryptography
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.statement import SignerClaim

STATEMENT = "statement.intoto.json"


@dataclass(frozen=True, eq=False)
class SealedStatement:
    """Holds the statement of a pack with its signature.

    Args:
        key: key that the statement names; None where the pack is not signed.
        claim: what the statement says about the signer.
    """

    statement: dict[str, Any]
    payload: bytes
    signatures: list[dict[str, str]]
    key: PublicKey | None
    claim: SignerClaim | None

    def require_signature(self) -> None:
        """Check the signature, where there is one, with the key that the statement names. Raises: PackRefused."""
        if self.key is not None:
            envelope.check_signature(self.payload, self.signatures, self.key, STATEMENT)

    @property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the statement names. Raises: PackRefused where it names none."""
        try:
            subjects = self.statement["subject"][1:]
            return {str(one["name"]): str(one["digest"]["sha256"]) for one in subjects}
        except (KeyError, IndexError, TypeError):
            raise PackRefused("The statement does not name the files of a pack.") from None


def open_statement(content: bytes) -> SealedStatement:
    """Return the statement in the envelope; its signature is not checked yet.

    Raises: PackRefused if there is no statement of a pack; InvalidSpec if it is signed and cryptography is missing.
    """
    statement, payload, signatures = envelope.open_envelope(content, STATEMENT)
    try:
        signer = statement["predicate"]["faal"]["signer"]
        claim = None if signer is None else SignerClaim(str(signer["publicKey"]), signer["name"])
    except (KeyError, TypeError):
        raise PackRefused(f"{STATEMENT} is not the statement of a pack.") from None
    if claim is not None and not strict_json.is_name(claim.name):
        raise PackRefused(f"{STATEMENT} does not state the signer's name as a text.")
    if (claim is None) != (not signatures):
        raise PackRefused(f"{STATEMENT} names a signer without a signature, or has a signature without a signer.")
    if claim is None:
        return SealedStatement(statement, payload, signatures, None, None)
    require_cryptography()
    try:
        key = parse_public_key(claim.public_key)
    except InvalidSpec:
        key = None
    if key is None or key.pem != claim.public_key:
        raise PackRefused(f"{STATEMENT} names no Ed25519 public key.")
    return SealedStatement(statement, payload, signatures, key, claim)
