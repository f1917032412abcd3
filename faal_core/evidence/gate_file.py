"""Read the policy and the result of a gate from a pack, and evaluate the policy again, as far as the pack allows."""

from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.evidence import strict_json
from faal_core.evidence.differences import list_differences
from faal_core.evidence.refusal import PackRefused
from faal_core.results.comparison import compare
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.baseline import PairedAudits
from faal_core.results.gates.documents import AuditIdentity, GateResult, RequirementResult
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.pairing import separate
from faal_core.results.trust import doubts
from faal_core.specs import Policy
from faal_core.specs.policy_file import parse_policy_document

AS_STATED = "as stated by the signer; the baseline is not in this pack"
"""Says of a result that the pack's readers cannot evaluate again."""
_BASELINE = "baseline."  # start of the names of its requirements


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

    Scope and rates are evaluated again. The rows of the baseline must be those of a gate, and agree with themselves.
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
    if not _are_rows_of_baseline(others, gate, report):
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
    return requirement.name.startswith(_BASELINE)


def _pair_with_itself(report: AuditReport) -> PairedAudits:
    """Return the audit as its own baseline, so that the requirements on scope and rates can be judged."""
    names = tuple(row.name for row in report.classes)
    same = np.ones(len(names), bool)
    unchanged = compare(np.arange(len(names)), same, same, names, report.spec.confidence)
    return PairedAudits(report, unchanged, unchanged)


def _are_rows_of_baseline(rows: Sequence[RequirementResult], gate: GateResult, report: AuditReport) -> bool:
    """Return whether the rows are the mean and the classes, clean and then robust, each in agreement with itself."""
    remaining = list(rows)
    names = [row.name for row in report.classes]
    for accuracy in ("clean", "robust"):
        for kind in ("mean", "classes"):
            title = f"{_BASELINE}{accuracy}.{kind}"
            taken = [one for one in remaining if one.name == title]
            if remaining[: len(taken)] != taken:
                return False
            remaining = remaining[len(taken) :]
            subjects = [one.subject for one in taken]
            fallen = [name for name in names if name in subjects]
            is_alone = subjects == [None] and (kind == "mean" or taken[0].status != "fail")
            if not is_alone and not (kind == "classes" and fallen and subjects == fallen):
                return False
            is_doubtful = bool(doubts(report, gate.policy.accept_warnings, clean=accuracy == "clean"))
            if not all(_agrees(one, gate, is_doubtful=is_doubtful) for one in taken):
                return False
    return not remaining


def _agrees(row: RequirementResult, gate: GateResult, *, is_doubtful: bool) -> bool:
    """Return whether limit, interval, p-value and result of a row of the baseline agree with each other."""
    numbers = (row.value, row.low, row.high, row.p_adjusted)
    if gate.policy.baseline is None or row.limit != gate.policy.baseline.tolerance or row.images_to_decide is not None:
        return False
    if not all(isinstance(number, float) and -1 <= number <= 1 for number in numbers):
        return False
    is_significant = row.p_adjusted is not None and 0 <= row.p_adjusted <= 1 - gate.interval_confidence
    if row.subject is not None or row.status == "fail":  # after warnings of the baseline, a fall is undecided
        return row.status != "pass" and is_significant
    return row.status == "undecided" or not (is_significant or is_doubtful)


def name_requirement(requirement: RequirementResult) -> str:
    """Return the name of the requirement, with the class or the groups that it is about."""
    return requirement.name if requirement.subject is None else f"{requirement.name}: {requirement.subject}"
