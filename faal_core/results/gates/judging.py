"""Judge an audit by a policy. The result depends only on the policy, the report and the comparison with a baseline.

1 − confidence, the probability of a wrong conclusion, is divided equally among the kinds of intervals that the policy needs. The
worst class, the gap and single classes are read from one family of intervals, so they are one kind.
"""

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.gates.baseline import PairedAudits, judge_baseline
from faal_core.results.gates.documents import AuditIdentity, GateResult
from faal_core.results.gates.rates import judge_rates
from faal_core.results.gates.scope import judge_scope
from faal_core.results.sequential import summarise
from faal_core.results.trust import list_codes
from faal_core.specs import Policy


def judge_audit(policy: Policy, report: AuditReport, paired: PairedAudits | None = None) -> GateResult:
    """Return whether the audit meets the policy, requirement by requirement.

    Args:
        paired: comparison with a baseline; needed where the policy has a `baseline`, and ignored elsewhere.
    Raises: InvalidSpec for a class, a column of groups or a baseline that the policy names and the audit does not have.
    """
    confidence = 1 - (1 - policy.confidence) / _count_kinds(policy)
    requirements = [*judge_scope(policy.scope, report), *judge_rates(policy, report, confidence)]
    if policy.baseline is not None:
        if paired is None:
            raise InvalidSpec("The policy has a baseline, and there is no audit to compare with.", remedy="baseline")
        requirements += judge_baseline(policy, report, paired, confidence)
    status = summarise([one.status for one in requirements])
    baseline = paired.baseline if policy.baseline and paired else None
    return GateResult(
        policy=policy,
        audit=AuditIdentity.from_report(report),
        baseline=AuditIdentity.from_report(baseline) if baseline else None,
        baseline_warnings=list_codes(baseline) if baseline else (),
        baseline_complete=baseline.complete if baseline else None,
        interval_confidence=confidence,
        requirements=tuple(requirements),
        status=status,
        passed=status == "pass" or (status == "undecided" and policy.undecided == "pass"),
    )


def _count_kinds(policy: Policy) -> int:
    """Return the number of kinds of intervals that the requirements need, at least 1."""
    classes = policy.min_worst is not None or policy.max_gap is not None or bool(policy.min_class)
    others = (policy.min_robust, policy.min_clean, policy.baseline)
    return classes + sum(one is not None for one in others) + len(policy.min_group)
