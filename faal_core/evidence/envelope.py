"""Put statements into envelopes with a signature.

Source: DSSE 1.0 (github.com/secure-systems-lab/dsse) with in-toto's payload type.
"""

import base64
import binascii
from typing import Any

from faal_core.evidence import strict_json
from faal_core.evidence.keys import PublicKey, Signer
from faal_core.evidence.refusal import PackRefused

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def seal(statement: object, signer: Signer | None) -> bytes:
    """Return the envelope of the statement as JSON; without a signer it has no signatures."""
    payload = strict_json.encode(statement)
    signatures = []
    if signer is not None:
        signatures.append({"keyid": signer.public_key.key_id, "sig": _to_base64(signer.sign(encode_message(payload)))})
    return _write(payload, signatures)


def _write(payload: bytes, signatures: list[dict[str, str]]) -> bytes:
    envelope = {"payload": _to_base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return strict_json.encode(envelope) + b"\n"


def encode_message(payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding of the payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def open_envelope(content: bytes, name: str) -> tuple[dict[str, Any], bytes, list[dict[str, str]]]:
    """Return the statement, its bytes and the signatures; no signature is checked yet.

    Raises: PackRefused if the envelope is not written exactly as `seal` writes it, or has several signatures.
    """
    envelope = strict_json.decode(content, name)
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [{"keyid": str(one["keyid"]), "sig": str(one["sig"])} for one in envelope["signatures"]]
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise PackRefused(f"{name} is no DSSE envelope.") from None
    statement = strict_json.decode(payload, f"The statement in {name}")
    if len(signatures) > 1 or _write(payload, signatures) != content or not isinstance(statement, dict):
        raise PackRefused(f"{name} is not written as FAAL writes an envelope.")
    if strict_json.encode(statement) != payload:
        raise PackRefused(f"The statement in {name} is not written as FAAL writes a statement.")
    return statement, payload, signatures


def check_signature(payload: bytes, signatures: list[dict[str, str]], key: PublicKey, name: str) -> None:
    """Check that the payload's one signature is of the key. Raises: PackRefused."""
    try:
        signature = base64.b64decode(signatures[0]["sig"], validate=True)
    except (IndexError, ValueError, binascii.Error):
        raise PackRefused(f"{name} has no readable signature.") from None
    if _to_base64(signature) != signatures[0]["sig"] or signatures[0]["keyid"] != key.key_id:
        raise PackRefused(f"The signature in {name} names another key than {key.key_id}.")
    if not key.has_signed(encode_message(payload), signature):
        raise PackRefused(f"The signature in {name} is not valid for the key {key.key_id}.")


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
