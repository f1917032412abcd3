"""Write digest fields (RFC 9530)."""

import base64


def format_digest(sha256: str) -> str:
    """Return the value of a Content-Digest or Repr-Digest header for a SHA-256 in hexadecimal."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
