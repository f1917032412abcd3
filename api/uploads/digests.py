"""Digest fields (RFC 9530): content whose SHA-256 is checked while it passes by, and the header that tells one."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from hmac import compare_digest

from api.problems.errors import DigestMismatch

FIELDS = ("content-digest", "repr-digest")


def digest_field(sha256: str) -> str:
    """The value of a Content-Digest or Repr-Digest header for a SHA-256 in hexadecimal."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def verified(pieces: Iterator[bytes], headers: Mapping[str, str], what: str) -> Iterator[bytes]:
    """`pieces` as they are; after the last one their SHA-256 is compared with the digest fields in `headers`, if any.

    Raises: DigestMismatch, also for a field that cannot be read. Other algorithms than sha-256 are passed over.
    """
    claims = {field: claim for field in FIELDS if (claim := _claim(field, headers.get(field, ""))) is not None}
    if not claims:
        yield from pieces
        return
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    for field, claim in claims.items():
        if not compare_digest(claim, digest.digest()):
            arrived = digest.hexdigest()
            raise DigestMismatch(f"The {what} that arrived has the sha-256 {arrived}; {field} says {claim.hex()}.")


def _claim(field: str, value: str) -> bytes | None:
    """The sha-256 in a digest field such as `sha-256=:4REjxQ…=:`."""
    for member in value.split(","):
        name, _, encoded = member.strip().partition("=")
        if name.lower() != "sha-256":
            continue
        try:
            claim = base64.b64decode(encoded.split(";")[0].strip().removeprefix(":").removesuffix(":"), validate=True)
        except ValueError:  # not base64, or not even ASCII
            claim = b""
        if len(claim) != hashlib.sha256().digest_size:
            raise DigestMismatch(f"{field} has no readable sha-256; it is written as sha-256=:<base64>:")
        return claim
    return None
