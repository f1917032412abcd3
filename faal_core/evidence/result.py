"""Define the JSON document of a verification: which checks a pack passed."""

from datetime import datetime
from typing import Literal

from pydantic import Field, computed_field

from faal_core.results.document import Document, Status

CheckName = Literal[
    "archive",
    "signature",
    "digests",
    "statement",
    "policy",
    "outcomes",
    "batches",
    "adversarial",
    "statistics",
    "gate",
    "page",
    "pdf",
    "predictions",
]


class Check(Document):
    """Gives the result of one check."""

    name: CheckName
    status: Literal["passed", "failed", "not-checked"]
    sentence: str = Field(description="The result in words, with the reason.")
    details: tuple[str, ...] = Field((), description="Fields, files or images that the sentence is about.")


class PolicySignature(Document):
    """Says who signed the policy of a pack, and when, as the signer states it."""

    key_id: str
    signer: str | None = Field(description="Name as stated by the signer; null where it is not stated.")
    claimed_at: datetime = Field(description="Time as stated by the signer.")
    before_audit: bool | None = Field(
        description="Whether the stated time is before the start of the audit; null where only the start of its last run is "
        "known: the audit was resumed, its report is older and does not say so, or the pack has a ledger or is of a fine-tuning."
    )
    trusted: bool = Field(
        False,
        description="Whether a public key of the policy was given to the verification, and the signature is of this key. "
        "Otherwise anyone may have signed the policy: the signature of the pack does not confirm it.",
    )


class VerificationResult(Document):
    """Says whether a pack is consistent, and what was checked. The same pack and keys always give the same result."""

    kind: Literal["verification"] = "verification"
    version: Literal[1] = 1
    product: str
    key_id: str | None = Field(None, description="Id of the key that signed the pack; null where it is not signed.")
    signer: str | None = Field(None, description="Name as stated by the signer; null where it is not stated.")
    trusted: bool = Field(
        False, description="Whether a public key was given to the verification, and the signature is of this key."
    )
    policy_signature: PolicySignature | None = None
    gate_status: Status | None = Field(
        None, description="Result of the policy; null where the pack has none, or it was not evaluated again."
    )
    stated_gate_status: Status | None = Field(
        None,
        description="Result of the policy as the maker of the pack states it, where it was not evaluated again as a whole, since "
        "the pack lacks the baseline.",
    )
    pdf_checked: bool | None = Field(
        None,
        description="Whether `evidence.pdf` was typeset again and is the PDF of `evidence.html`; null where the pack has no PDF. "
        "Where it is false, nothing shows that the PDF has the text of the page: rely on `evidence.html`.",
    )
    checks: tuple[Check, ...]

    @computed_field(description="Whether no check failed.")  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def verified(self) -> bool:
        """Return whether no check failed."""
        return all(check.status != "failed" for check in self.checks)
