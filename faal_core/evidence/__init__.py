"""Pack a report with its evidence under one signature, and verify such a pack. Needs no torch.

`pack` writes a pack and `verification` verifies it; `contents` names the files. `statement` and `envelope` are in-toto and DSSE,
`approval` signs a policy before an audit, `statistics_check` and `batches` compute the report's numbers again, and `page` renders
the page that a board reads.
"""

from faal_core.evidence.approval import sign_policy
from faal_core.evidence.keys import create_key, read_public_key, read_signer
from faal_core.evidence.pack import write_pack
from faal_core.evidence.result import Check, VerificationResult
from faal_core.evidence.verification import verify_pack

__all__ = [
    "Check",
    "VerificationResult",
    "create_key",
    "read_public_key",
    "read_signer",
    "sign_policy",
    "verify_pack",
    "write_pack",
]
