"""Compute the root of a Merkle tree, which binds a list of results in one digest.

Source: RFC 6962, section 2.1. A leaf is hashed after the byte 0, and an inner node after the byte 1, so
that no node passes for a leaf.
"""

import hashlib
from collections.abc import Iterable


def compute_root(leaves: Iterable[bytes]) -> str:
    """Return the root of the tree over the leaves as hexadecimal digits. Needs memory for log2(leaves) digests only."""
    complete: list[tuple[int, bytes]] = []  # roots of complete subtrees with their heights, the highest first
    for leaf in leaves:
        height, digest = 0, hashlib.sha256(b"\0" + leaf).digest()
        while complete and complete[-1][0] == height:
            digest = _join(complete.pop()[1], digest)
            height += 1
        complete.append((height, digest))
    if not complete:
        return hashlib.sha256().hexdigest()
    root = complete.pop()[1]
    while complete:
        root = _join(complete.pop()[1], root)
    return root.hex()


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
