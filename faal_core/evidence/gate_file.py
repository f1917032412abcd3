"""Read the policy and the result of a gate from a pack, and evaluate the policy again, as far as the pack allows."""

import numpy as np
from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.evidence import strict_json
from faal_core.evidence.differences import list_differences
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.stated_baseline import BASELINE, are_rows_of_baseline
from faal_core.results.comparison import compare
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.baseline import PairedAudits
from faal_core.results.gates.documents import AuditIdentity, GateResult, RequirementResult
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.pairing import separate
from faal_core.specs import Policy
from faal_core.specs.policy_file import parse_policy_document

AS_STATED = "as stated by the maker of the pack; the baseline is not in it"
"""Says of a result that the pack's readers cannot evaluate again."""


def read_policy(content: bytes, name: str) -> Policy:
    """Return the policy in the file of that name. Raises: PackRefused."""
    try:
        return Policy.model_validate(parse_policy_document(content, name))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:200]
        raise PackRefused(f"{name} is no policy: {field and f'{field}: '}{str(first['msg'])[:200]}.") from None
    except InvalidSpec as error:
        raise PackRefused(error.message) from None


def can_judge(policy: Policy, report: AuditReport | FinetuneReport) -> bool:
    """Return whether the policy can be evaluated from the pack alone: a baseline is there only for a fine-tuning."""
    return policy.baseline is None or isinstance(report, FinetuneReport)


def judge_report(policy: Policy, report: AuditReport | FinetuneReport) -> GateResult:
    """Return the result of the policy for the report. Raises: PackRefused if it names a class that the audit does not have."""
    try:
        return judge_audit(policy, *separate(report))
    except InvalidSpec as error:
        raise PackRefused(error.message) from None


def read_gate(content: bytes, policy: Policy, audit: AuditReport, name: str) -> GateResult:
    """Return the result of the gate. Raises: PackRefused if it is none, or not of this policy and this audit."""
    strict_json.decode(content, name)
    try:
        gate = GateResult.model_validate_json(content)
    except ValidationError:
        raise PackRefused(f"{name} is no result of a gate.") from None
    if gate.audit != AuditIdentity.from_report(audit):
        raise PackRefused(f"{name} judges another audit than the one in the pack.")
    if gate.policy != policy:
        raise PackRefused(
            f"{name} judges by another policy than the one in the pack. Write all limits into the policy's file."
        )
    return gate


def list_changes(gate: GateResult, again: GateResult) -> list[str]:
    """Return the paths of the fields in which a result differs from the one that was computed again."""
    return list(list_differences(again.model_dump(), gate.model_dump(), ""))


def list_stated_changes(gate: GateResult, policy: Policy, report: AuditReport) -> list[str]:
    """Return the paths of the fields that cannot be right, of a result whose baseline is not in the pack.

    Scope and rates are evaluated again. The rows of the baseline must be those that a gate writes.
    Raises: PackRefused if the policy names a class that the audit does not have.
    """
    try:
        again = judge_audit(policy, report, _pair_with_itself(report))
    except InvalidSpec as error:
        raise PackRefused(error.message) from None
    own = [one for one in again.requirements if not is_of_baseline(one)]
    others = gate.requirements[len(own) :]
    fields = {"interval_confidence", "requirements"}
    stated = gate.model_copy(update={"requirements": gate.requirements[: len(own)]})
    expected = again.model_copy(update={"requirements": tuple(own)})
    changes = list(list_differences(expected.model_dump(include=fields), stated.model_dump(include=fields), ""))
    if gate.baseline is None:
        changes.append("baseline")
    if gate.baseline_complete is None:
        changes.append("baseline_complete")
    if not are_rows_of_baseline(others, gate, report):
        changes.append("requirements of the baseline")
    statuses = {one.status for one in gate.requirements}
    status = next((one for one in ("fail", "undecided") if one in statuses), "pass")
    if gate.status != status:
        changes.append("status")
    if gate.passed != (status == "pass" or (status == "undecided" and policy.undecided == "pass")):
        changes.append("passed")
    return changes


def is_of_baseline(requirement: RequirementResult) -> bool:
    """Return whether the requirement compares the audit with a baseline."""
    return requirement.name.startswith(BASELINE)


def _pair_with_itself(report: AuditReport) -> PairedAudits:
    """Return the audit as its own baseline, so that the requirements on scope and rates can be judged."""
    names = tuple(row.name for row in report.classes)
    same = np.ones(len(names), bool)
    unchanged = compare(np.arange(len(names)), same, same, names, report.spec.confidence)
    return PairedAudits(report, unchanged, unchanged)


def name_requirement(requirement: RequirementResult) -> str:
    """Return the name of the requirement, with the class or the groups that it is about."""
    return requirement.name if requirement.subject is None else f"{requirement.name}: {requirement.subject}"
