"""Write the verdict of a pack in sentences: what was met, what the statement records, and what the policy leaves open."""

from dataclasses import dataclass

from faal_core.evidence.contents import Contents
from faal_core.evidence.gate_file import AS_STATED, can_judge
from faal_core.evidence.statement import name_result
from faal_core.reports.gate_formats import words
from faal_core.results.gates.documents import GateResult, RequirementResult
from faal_core.specs import Policy

_ROBUST = ("min_worst", "min_robust", "max_gap", "min_class", "min_group", "baseline")


@dataclass(frozen=True)
class Verdict:
    """Gives the verdict of a pack in words.

    Args:
        tone: class of the box that shows it.
        details: further sentences: how many limits are met, and what the statement records.
    """

    tone: str
    sentence: str
    details: tuple[str, ...] = ()


def judge(contents: Contents, *, signed: bool) -> Verdict:
    """Return whether the audit meets the policy in the pack.

    Args:
        signed: whether the pack's statement has a signature.
    """
    gate = contents.gate
    recorded = f"The {'signed ' if signed else ''}statement records the result as {name_result(contents)}."
    if gate is None:
        policy = "was not evaluated" if contents.policy_name else "is not part of this pack"
        return Verdict("mixed", f"No verdict: a policy with limits {policy}.", (recorded,))
    tone, sentence = _describe_gate(gate)
    if contents.policy is not None and not can_judge(contents.policy, contents.report):
        tone = "mixed" if tone == "good" else tone
        sentence = f"{sentence.removesuffix('.')}, {AS_STATED}."
    return Verdict(tone, sentence, (*_count_results(gate), recorded))


def _describe_gate(gate: GateResult) -> tuple[str, str]:
    """Return the tone of the gate's result, and the result in words."""
    count = len(gate.requirements)
    if gate.status == "pass":
        met = (
            "the requirement of the policy is met" if count == 1 else f"all {count} requirements of the policy are met"
        )
        return "good", f"Passed: {met}."
    if gate.status == "fail":
        failed = sum(one.status == "fail" for one in gate.requirements)
        verb = "is" if failed == 1 else "are"
        return "bad", f"Failed: {failed} of {count} requirements of the policy {verb} not met."
    undecided = sum(one.status == "undecided" for one in gate.requirements)
    subject = "1 limit is" if undecided == 1 else f"{undecided} limits are"
    if gate.passed:
        return "mixed", f"Passed with a reservation: {subject} undecided, and the policy counts undecided as passed."
    return "bad", f"Not passed: {subject} undecided, and undecided counts as not passed."


def _count_results(gate: GateResult) -> list[str]:
    """Return how many limits, and how many conditions on the audit's scope, are met."""
    scope = [one for one in gate.requirements if words.field(one) == "scope"]
    limits = [one for one in gate.requirements if words.field(one) != "scope"]
    lines = []
    if limits:
        undecided, broken = _count(limits, "undecided"), _count(limits, "fail")
        shown = f"{broken or 'none'} {'is' if broken < 2 else 'are'} shown to be broken"
        met = _count(limits, "pass")
        subject = f"{met} of {len(limits)} limit{'' if len(limits) == 1 else 's'}"
        lines.append(
            f"{subject} {'is' if 1 in (met, len(limits)) else 'are'} met, {undecided or 'none'} "
            f"{'is' if undecided < 2 else 'are'} undecided, {shown}."
        )
    if scope:
        met = _count(scope, "pass")
        whole = {1: "The condition", 2: "Both conditions"}.get(len(scope), f"All {len(scope)} conditions")
        lines.append(
            f"{whole} on the audit's scope {'is' if len(scope) == 1 else 'are'} met."
            if met == len(scope)
            else f"{met} of {len(scope)} conditions on the audit's scope {'is' if met == 1 else 'are'} met."
        )
    return lines


def _count(requirements: list[RequirementResult], status: str) -> int:
    return sum(one.status == status for one in requirements)


def describe_rules(contents: Contents) -> list[str]:
    """Return what the policy leaves to others: rules that are defaults of FAAL, and choices of the people who ran the audit."""
    policy, name = contents.policy, contents.policy_name
    if policy is None:
        return []
    file = f"The {'signed ' if contents.approval else ''}file {name}"
    lines = []
    if "undecided" not in policy.model_fields_set:
        rule = "not passed" if policy.undecided == "fail" else "passed"
        lines.append(f"{file} does not say how undecided limits count. FAAL's default applies: as {rule}.")
    if "confidence" not in policy.model_fields_set:
        lines.append(f"{file} does not state a confidence. FAAL's default applies: {100 * policy.confidence:g} %.")
    return [*lines, *_list_choices(policy)]


def _list_choices(policy: Policy) -> list[str]:
    """Return the sentence on what the policy leaves to the people who ran the audit; none where it fixes all."""
    scope = policy.scope
    names = [
        *(["classifier"] if scope.model_sha256 is None else []),
        *(["images", "number of images"] if scope.dataset_sha256 is None else []),
        *(["radius of the perturbations"] if scope.epsilon is None else []),
        *(["attacks"] if scope.attacks is None else []),
    ]
    if not names:
        return []
    chosen = (
        f"does not fix the {names[0]}" if len(names) == 1 else f"fixes neither {', '.join(names[:-1])} nor {names[-1]}"
    )
    return [f"The policy {chosen}: the people who ran the audit chose {'it' if names == ['classifier'] else 'them'}."]


def describe_intervals(contents: Contents) -> list[str]:
    """Return the confidence of the intervals in the table of requirements, and why it can differ from the class table's."""
    gate, own = contents.gate, contents.audited.spec.confidence
    if gate is None or all(one.low is None for one in gate.requirements):
        return []
    confidence = f"{100 * gate.interval_confidence:g} %"
    lines = [f"The intervals in this table have {confidence} confidence."]
    kinds = round((1 - gate.policy.confidence) / (1 - gate.interval_confidence))
    if kinds > 1:
        lines[0] += (
            f" The policy's conclusions hold together with {100 * gate.policy.confidence:g} %. {kinds} kinds of limits share the "
            f"error of {100 * (1 - gate.policy.confidence):g} %, so each gets {100 * (1 - gate.interval_confidence):g} %."
        )
    if round(gate.interval_confidence, 9) != round(own, 9):
        wider = "wider" if gate.interval_confidence > own else "narrower"
        lines.append(f"The intervals of the class table have {100 * own:g} %. So those of this table are {wider}.")
    if any(words.field(one) in _ROBUST for one in gate.requirements):
        lines.append("Robust accuracies are upper bounds: attacks that were not tried can only lower them.")
    return lines
