"""Digest fields (RFC 9530): check the SHA-256 of content while it streams."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from hmac import compare_digest

from api.problems.errors import DigestMismatch

FIELDS = ("content-digest", "repr-digest")


def verify_digests(pieces: Iterator[bytes], headers: Mapping[str, str], name: str) -> Iterator[bytes]:
    """Yield the pieces unchanged, then compare their SHA-256 with the digest fields in `headers`, if there are any.

    Algorithms other than sha-256 are ignored.

    Args:
        pieces: the content.
        headers: header fields with lower-case names.
        name: name of the content, for the error message.

    Raises: DigestMismatch, also for a field that cannot be read.
    """
    claims = {field: claim for field in FIELDS if (claim := _read_claim(field, headers.get(field, ""))) is not None}
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
            raise DigestMismatch(
                f"The {name} that arrived has the sha-256 {arrived}, but {field} has {claim.hex()}. Send it again; if that fails "
                "too, compute the digest again."
            )


def _read_claim(field: str, value: str) -> bytes | None:
    """Return the SHA-256 in a digest field such as `sha-256=:4REjxQ…=:`."""
    for member in value.split(","):
        name, _, encoded = member.strip().partition("=")
        if name.lower() != "sha-256":
            continue
        try:
            claim = base64.b64decode(encoded.split(";")[0].strip().removeprefix(":").removesuffix(":"), validate=True)
        except ValueError:  # not base64, or not even ASCII
            claim = b""
        if len(claim) != hashlib.sha256().digest_size:
            raise DigestMismatch(
                f"{field} is {value[:100]!r}, which has no readable SHA-256. Write it as sha-256=:<base64>:"
            )
        return claim
    return None
