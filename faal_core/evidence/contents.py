"""Name the files of a pack, and read the documents in them within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from faal_core.evidence import strict_json
from faal_core.evidence.approval import Approval, read_approval
from faal_core.evidence.archive import MAX_BYTES, Member
from faal_core.evidence.batches import BatchLines, parse_batches
from faal_core.evidence.gate_file import read_gate, read_policy
from faal_core.evidence.outcomes_file import read_outcomes_file
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.documents import GateResult
from faal_core.results.outcomes import Outcomes
from faal_core.results.reading import REPORT, list_audits, read_report
from faal_core.specs import Policy

SPEC, PAGE, PDF = "spec.json", "evidence.html", "evidence.pdf"
POLICIES, APPROVAL, GATE = ("policy.yaml", "policy.json"), "policy.intoto.json", "gate.json"
BATCHES, ADVERSARIAL = "batches.jsonl", "adversarial.npy"
ENVIRONMENT, SBOM = "environment.json", "sbom.cdx.json"

_MEBIBYTE = 2**20
_OUTCOMES = ("outcomes.parquet", "outcomes-before.parquet", "outcomes-after.parquet")
MAX_SIZES: Mapping[str, int] = {
    REPORT: 64 * _MEBIBYTE,
    SPEC: 4 * _MEBIBYTE,
    PAGE: 64 * _MEBIBYTE,
    PDF: 64 * _MEBIBYTE,
    **dict.fromkeys(POLICIES, _MEBIBYTE),
    APPROVAL: _MEBIBYTE,
    GATE: 16 * _MEBIBYTE,
    BATCHES: 512 * _MEBIBYTE,
    ADVERSARIAL: MAX_BYTES,
    ENVIRONMENT: _MEBIBYTE,
    SBOM: 16 * _MEBIBYTE,
    **dict.fromkeys(_OUTCOMES, 256 * _MEBIBYTE),
}
"""The largest size in bytes of each file that a pack may have."""


@dataclass(frozen=True, eq=False)
class Contents:
    """Reads the files of a pack, each at its first use.

    Args:
        members: the files by name, without the statement.
    """

    members: Mapping[str, Member]

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises: PackRefused if the pack lacks it, or it is too large."""
        if name not in self.members:
            raise PackRefused(f"The pack has no {name}.")
        check_size(name, self.members[name].size)
        with self.members[name].open() as file:
            return file.read()

    @cached_property
    def report(self) -> AuditReport | FinetuneReport:
        """Return the report. Raises: PackRefused."""
        content = self.read(REPORT)
        strict_json.decode(content, REPORT)  # refuses repeated fields, of which readers disagree
        try:
            report = read_report(content)
        except ValidationError as error:
            raise PackRefused(f"{REPORT} is not a report of FAAL: {_explain(error)}") from None
        if any(audit.sequential is not None for audit in list_audits(report).values()):
            raise PackRefused(
                "The audit is sequential, and a pack needs an audit of all images. Audit again without `sequential`."
            )
        return report

    @cached_property
    def audits(self) -> Mapping[str, AuditReport]:
        """Return the audits in the report by the names of their outcomes' files; the newest weights come last."""
        return list_audits(self.report)

    @property
    def audited(self) -> AuditReport:
        """Return the audit of the newest weights, which the pack is about."""
        return list(self.audits.values())[-1]

    @cached_property
    def outcomes(self) -> Mapping[str, Outcomes]:
        """Return the outcomes of each audit by the names of their files. Raises: PackRefused."""
        return {name: read_outcomes_file(self.read(name), name, audit) for name, audit in self.audits.items()}

    @property
    def policy_name(self) -> str | None:
        """Return the name of the policy's file, if there is one. Raises: PackRefused where there are two."""
        names = [name for name in POLICIES if name in self.members]
        if len(names) > 1:
            raise PackRefused("The pack has two policies.")
        return names[0] if names else None

    @cached_property
    def approval(self) -> Approval | None:
        """Return the signature of the policy, if there is one. Raises: PackRefused where it is not of this policy."""
        if APPROVAL not in self.members:
            return None
        if self.policy_name is None:
            raise PackRefused(f"The pack has {APPROVAL}, and no policy.")
        return read_approval(self.read(APPROVAL), self.read(self.policy_name), APPROVAL)

    @cached_property
    def policy(self) -> Policy | None:
        """Return the policy, if there is one. Raises: PackRefused."""
        return None if self.policy_name is None else read_policy(self.read(self.policy_name), self.policy_name)

    @cached_property
    def gate(self) -> GateResult | None:
        """Return the result of the gate, if there is one. Raises: PackRefused where it is not of this policy and audit."""
        if GATE not in self.members:
            return None
        if self.policy is None:
            raise PackRefused(f"The pack has {GATE}, and no policy.")
        return read_gate(self.read(GATE), self.policy, self.audited, GATE)

    @cached_property
    def batches(self) -> BatchLines | None:
        """Return the results of the audit's batches, if the pack has them. Raises: PackRefused."""
        return parse_batches(self.read(BATCHES)) if BATCHES in self.members else None


def check_size(name: str, size: int) -> None:
    """Check that a pack may have a file of that name and size. Raises: PackRefused."""
    if name not in MAX_SIZES:
        raise PackRefused(f"The pack has {name!r}, which is no file of a pack.")
    if size > MAX_SIZES[name]:
        raise PackRefused(f"{name} has {size:,} bytes; at most {MAX_SIZES[name]:,} are read.")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:200]}: {str(first['msg'])[:200]}."
