"""Gates: limits and intervals, scope, warnings, baselines, and the errors of policies that do not fit the report."""

import numpy as np
import pytest

from faal_core.errors import InvalidSpec
from faal_core.results import intervals
from faal_core.results.audit_comparison import compare_audits, tabulate_audits
from faal_core.results.gates.baseline import PairedAudits
from faal_core.results.gates.documents import GateResult, RequirementResult
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.pairing import pair_audits, separate
from faal_core.results.reading import StoredAudit
from faal_core.results.trust import OVERSTATED
from faal_core.specs import Policy
from faal_core.threat_model import ThreatModel
from tests.gate_reports import make_pair, make_report
from tests.sample_reports import FASHION, ROBUST_BEFORE, WARNING, sample_audit, sample_finetune, sample_outcomes

REPORT = sample_audit(groups=("day", "night"))


def judge(report=REPORT, **policy) -> RequirementResult:
    """Return the result of a policy's only requirement on rates."""
    return judge_audit(Policy(**policy), report).requirements[-1]


def test_one_requirement_has_the_reports_intervals() -> None:
    """At the report's confidence, a single requirement is judged by the very bounds that the report has."""
    shirt = REPORT.classes[6].robust
    for policy, expected in (
        ({"min_worst": 0.1}, REPORT.robust.worst),
        ({"min_robust": 0.1}, REPORT.robust.mean),
        ({"min_clean": 0.1}, REPORT.clean.mean),
        ({"max_gap": 0.9}, REPORT.robust.gap),
        ({"min_class": {"shirt": 0.1}}, shirt),
        ({"min_group": {"camera": 0.1}}, REPORT.groups[0].robust.worst),
    ):
        result = judge(**policy)
        assert (result.low, result.high) == (expected.low, expected.high)
        assert result.value == (expected.value if hasattr(expected, "value") else expected.rate)
        assert result.status == "pass"


def test_a_small_class_may_be_the_worst() -> None:
    """The worst class's lower bound is the smallest of all, also that of a class with few images and a higher measured rate."""
    report = make_report([30, 5], [100, 10])
    low, high = intervals.simultaneous_bounds(np.array([30, 5]), np.array([100, 10]), 0.95)
    result = judge(report, min_worst=0.1)
    assert (result.value, result.low, result.high) == (0.3, low[1], high[0])
    assert low[1] < low[0]


@pytest.mark.parametrize("name", ["min_worst", "min_robust", "min_clean"])
def test_a_limit_is_judged_by_the_interval(name: str) -> None:
    """A limit at the lower bound passes, one above the upper bound fails, and one between is undecided."""
    measured = judge(**{name: 0.01})
    for limit, status in (
        (measured.low, "pass"),
        (measured.low + 1e-9, "undecided"),
        (measured.high, "undecided"),
        (measured.high + 1e-9, "fail"),
    ):
        assert judge(**{name: limit}).status == status


def test_the_gap_is_limited_from_above() -> None:
    """A limit at the upper bound passes, one below the lower bound fails."""
    measured = judge(max_gap=0.9)
    limits = (measured.high, measured.high - 1e-9, measured.low, measured.low - 1e-9)
    statuses = ["pass", "undecided", "undecided", "fail"]
    assert [judge(max_gap=limit).status for limit in limits] == statuses


def test_the_error_probability_is_divided_among_kinds_of_intervals() -> None:
    """Requirements on classes share their intervals; means, columns of groups and the baseline each take a part of α."""
    on_classes = Policy(min_worst=0.1, max_gap=0.9, min_class={"bag": 0.1, "coat": 0.1})
    assert judge_audit(on_classes, REPORT).interval_confidence == pytest.approx(0.95)
    several = Policy(min_worst=0.1, min_robust=0.1, min_clean=0.1, min_group={"camera": 0.1}, confidence=0.9)
    result = judge_audit(several, REPORT)
    assert result.interval_confidence == pytest.approx(1 - 0.1 / 4)
    low, high = intervals.clopper_pearson(REPORT.robust.mean.count, REPORT.robust.mean.images, 1 - 0.1 / 4)
    assert (result.requirements[1].low, result.requirements[1].high) == (float(low), float(high))


def test_the_status_is_that_of_the_worst_requirement() -> None:
    """A failure counts more than an undecided requirement, which passes the gate only where the policy says so."""
    met, open_, unmet = {"min_robust": 0.1}, {"min_worst": REPORT.robust.worst.value}, {"min_clean": 1.0}
    for policy, status, passed in (
        (met, "pass", True),
        ({**met, **open_}, "undecided", False),
        ({**met, **open_, "undecided": "pass"}, "undecided", True),
        ({**met, **open_, **unmet, "undecided": "pass"}, "fail", False),
    ):
        result = judge_audit(Policy(**policy), REPORT)
        assert (result.status, result.passed) == (status, passed)


@pytest.mark.parametrize("code", sorted(OVERSTATED))
def test_no_robust_rate_passes_after_a_warning(code: str) -> None:
    """Rates that may be too high are undecided where they would pass, with the reason, unless the policy accepts the warning."""
    report = sample_audit(warnings=(WARNING.model_copy(update={"code": code}),))
    assert judge(report, min_worst=0.1).status == judge(report, max_gap=0.9).status == "undecided"
    assert f"{code}: {WARNING.message}" in judge(report, min_worst=0.1).sentence
    assert judge(report, min_worst=0.1, accept_warnings=[code]).status == "pass"
    assert judge(report, min_worst=0.9).status == "fail"
    assert judge(report, max_gap=0.01).status == "undecided"
    assert f"the gap may be smaller. {code}: " in judge(report, max_gap=0.01).sentence
    assert judge(report, max_gap=0.01, accept_warnings=[code]).status == "fail"
    assert judge(report, min_clean=0.1).status == ("undecided" if code == "training-images" else "pass")


def test_other_warnings_change_nothing() -> None:
    """A warning that is not about rates that are too high leaves the gate open."""
    assert judge(sample_audit(warnings=(WARNING,)), min_worst=0.1).status == "pass"


def test_an_incomplete_audit_passes_no_robust_rate() -> None:
    """Attacks that did not reach every image leave robust rates undecided, and clean ones as they are."""
    stopped = REPORT.model_copy(update={"attacks": (REPORT.attacks[0].model_copy(update={"untried": 1}),)})
    result = judge(stopped, min_worst=0.1)
    assert (result.status, result.images_to_decide) == ("undecided", None)
    assert "incomplete" in result.sentence
    assert judge(stopped, min_clean=0.1).status == "pass"


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"norm": "linf"}, "pass"),
        ({"norm": "l2"}, "fail"),
        ({"epsilon": 0.1}, "pass"),
        ({"epsilon": "8/255"}, "pass"),
        ({"epsilon": 0.11}, "fail"),
        ({"attacks": "quick"}, "pass"),
        ({"attacks": "pgd-20"}, "pass"),
        ({"attacks": "fast"}, "fail"),
        ({"dataset_sha256": "a9" * 32}, "pass"),
        ({"dataset_sha256": "00" * 32}, "fail"),
        ({"model_sha256": "3f" * 32}, "pass"),
        ({"model_sha256": "00" * 32}, "fail"),
    ],
)
def test_the_scope_is_compared_with_the_report(scope: dict, status: str) -> None:
    """An audit of another norm, a smaller radius, weaker attacks, other images or other weights fails."""
    results = judge_audit(Policy(min_worst=0.01, scope=scope), REPORT).requirements
    (name,) = scope
    (result,) = (one for one in results if one.name == f"scope.{name}")
    assert result.status == status
    assert all(one.status == "pass" for one in results if one.name not in {f"scope.{name}", "scope.norm"})


def test_a_stopped_audit_has_no_strength() -> None:
    """Attacks that did not reach every image do not meet the scope, and the sentence says so."""
    stopped = REPORT.model_copy(update={"attacks": (REPORT.attacks[0].model_copy(update={"untried": 1}),)})
    first = judge_audit(Policy(min_clean=0.01, scope={"attacks": "pgd-20"}), stopped).requirements[0]
    assert (first.name, first.status) == ("scope.attacks", "fail")
    assert first.sentence.endswith("at least as strong as the preset pgd-20; the audit has pgd-20, not finished.")


def test_further_attacks_keep_the_strength() -> None:
    """An audit with all attacks of a preset and others is as strong as the preset; one with a part of them is not."""
    preset = [dict(one) for one in sample_audit(attacks="fast").spec.model_dump()["attacks"]]
    policy = Policy(min_worst=0.01, scope={"attacks": "fast"})
    assert judge_audit(policy, sample_audit(attacks=[*preset, {"type": "square"}])).status == "pass"
    assert judge_audit(policy, sample_audit(attacks=preset[:-1])).status == "fail"


def test_a_radius_of_the_same_fraction_is_large_enough() -> None:
    """A radius that is the required one but for rounding passes."""
    spec = REPORT.spec.model_copy(update={"threat": ThreatModel(epsilon=8 / 255)})
    report = REPORT.model_copy(update={"spec": spec})
    policy = Policy(min_worst=0.01, scope={"epsilon": 0.03137254902})
    assert judge_audit(policy, report).status == "pass"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"min_class": {"cat": 0.1}}, "no 'cat'; it has 'T-shirt'"),
        ({"min_group": {"light": 0.1}}, "no 'light'; it has 'camera'"),
        ({"baseline": {}}, "no audit to compare with"),
    ],
)
def test_a_policy_of_another_report_is_an_error(policy: dict, message: str) -> None:
    """A name that the report does not have is an error, because such a requirement can be neither met nor unmet."""
    with pytest.raises(InvalidSpec, match=message):
        judge_audit(Policy(**policy), REPORT)


def test_a_name_of_two_classes_is_an_error() -> None:
    """A limit for a name that two classes have is refused; other limits judge such a report."""
    report = sample_audit(names=("cat", "cat", "dog"), robust=(0.1, 0.5, 0.9))
    with pytest.raises(InvalidSpec, match="2 classes with the name 'cat'"):
        judge_audit(Policy(min_class={"cat": 0.4}), report)
    assert judge(report, min_class={"dog": 0.5}).status == "pass"


def test_a_finetuning_is_compared_with_its_original() -> None:
    """The audit of the new weights is judged, and the original weights are its baseline."""
    report = sample_finetune()
    audit, paired = separate(report)
    result = judge_audit(Policy(baseline={}), audit, paired)
    assert audit is report.after
    assert result.baseline is not None
    assert [(one.name, one.subject) for one in result.requirements] == [
        ("baseline.clean.mean", None),
        ("baseline.clean.classes", None),
        ("baseline.robust.mean", None),
        ("baseline.robust.classes", None),
    ]
    mean = result.requirements[2]
    assert mean.value == pytest.approx(report.before.robust.mean.rate - report.after.robust.mean.rate)
    assert mean.low <= mean.value <= mean.high


def sample_with_falls(**changes: float) -> StoredAudit:
    """Return an audit whose named classes have lower robust accuracy than those of the sample."""
    robust = [rate - changes.get(name, 0.0) for name, rate in zip(FASHION, ROBUST_BEFORE, strict=True)]
    return StoredAudit(*sample_outcomes(robust=robust))


def test_a_significant_fall_fails() -> None:
    """A class that falls by 30 points is named, with a small p-value; classes that did not fall are not."""
    audit = sample_with_falls(bag=0.3)
    paired = pair_audits(sample_with_falls(), audit)
    result = judge_audit(Policy(baseline={}), audit.report, paired)
    failed = [one for one in result.requirements if one.status == "fail"]
    assert ("baseline.robust.classes", "bag") in [(one.name, one.subject) for one in failed]
    assert {one.subject for one in failed} <= {None, "bag"}
    assert all(one.p_adjusted <= 0.05 and one.low > 0.01 for one in failed)
    assert judge_audit(Policy(baseline={"tolerance": 0.4}), audit.report, paired).status == "pass"


def test_a_stopped_baseline_fails_no_robust_accuracy() -> None:
    """The robust rates of a stopped baseline may be too high, so robust falls are undecided. Other results stay."""
    audit = sample_with_falls(bag=0.3)
    paired = pair_audits(sample_with_falls(), audit)
    stopped = REPORT.model_copy(update={"attacks": (REPORT.attacks[0].model_copy(update={"untried": 1}),)})
    complete = judge_audit(Policy(baseline={}), audit.report, paired)
    incomplete = judge_audit(Policy(baseline={}), audit.report, paired._replace(baseline=stopped))
    falls = [one for one in complete.requirements if one.name.startswith("baseline.robust") and one.status == "fail"]
    assert ("baseline.robust.classes", "bag") in [(one.name, one.subject) for one in falls]
    for before, after in zip(complete.requirements, incomplete.requirements, strict=True):
        if before in falls:
            assert (after.status, after.subject) == ("undecided", before.subject)
            assert "rates of the baseline may be too high. Of its audit: The audit is incomplete" in after.sentence
        else:
            assert after == before


@pytest.mark.parametrize("code", sorted(OVERSTATED))
def test_a_baseline_with_a_warning_fails_no_accuracy_that_may_be_too_high(code: str) -> None:
    """A fall from rates that may be too high is undecided, with the reason, unless the policy accepts the warning."""
    warned = sample_audit(warnings=(WARNING.model_copy(update={"code": code}),))
    cells = np.tile([20, 60, 0, 20], (10, 1))
    report, paired = make_pair(cells, cells)
    fallen = judge_audit(Policy(baseline={}), report, paired)
    assert {one.status for one in fallen.requirements} == {"fail"}
    doubtful = paired._replace(baseline=warned)
    result = judge_audit(Policy(baseline={}), report, doubtful)
    for one in result.requirements:
        is_doubtful = "robust" in one.name or code == "training-images"
        assert one.status == ("undecided" if is_doubtful else "fail"), one
        assert (f"Of its audit: It has the warning {code}." in one.sentence) == is_doubtful
    assert (
        judge_audit(Policy(baseline={}, accept_warnings=[code]), report, doubtful).requirements == fallen.requirements
    )


def test_rates_that_may_be_too_high_do_not_pass_a_comparison() -> None:
    """After a warning the robust comparison is undecided, and the clean one passes."""
    audit = sample_with_falls()
    report = audit.report.model_copy(update={"warnings": (WARNING.model_copy(update={"code": "zero-gradient"}),)})
    result = judge_audit(Policy(baseline={}), report, pair_audits(sample_with_falls(), audit))
    assert [one.status for one in result.requirements] == ["pass", "pass", "undecided", "undecided"]


def test_only_audits_of_the_same_images_are_paired() -> None:
    """A baseline with other images or without outcomes is refused with the reason, and so is a comparison by counts."""
    audit = sample_with_falls()
    dataset = audit.report.dataset.model_copy(update={"sha256": "00" * 32})
    other = StoredAudit(audit.report.model_copy(update={"dataset": dataset}), audit.outcomes)
    for baseline, message in (
        (other, "different images"),
        (StoredAudit(audit.report, None), "not stored beside the report"),
        (StoredAudit(sample_audit(attacks="quick"), audit.outcomes), "different attacks"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            pair_audits(baseline, audit)
    by_counts = compare_audits(other, audit)
    with pytest.raises(InvalidSpec, match="different images"):
        separate(by_counts)
    with pytest.raises(InvalidSpec, match="different images"):
        judge_audit(Policy(baseline={}), audit.report, PairedAudits(other.report, by_counts.clean, by_counts.robust))
    with pytest.raises(InvalidSpec, match="other classes"):
        judge_audit(Policy(baseline={}), sample_audit(names=("a", "b"), robust=(0.1, 0.2)), pair_audits(audit, audit))


def test_a_comparison_can_be_judged() -> None:
    """The second audit of a comparison of the same images is judged, and the first is its baseline; a table has no such audit."""
    before, after = sample_with_falls(), sample_with_falls(bag=0.3)
    assert judge_audit(Policy(baseline={}), *separate(compare_audits(before, after))).status == "fail"
    assert judge_audit(Policy(baseline={}), *separate(compare_audits(after, before))).status == "pass"
    with pytest.raises(InvalidSpec, match="no single audit"):
        separate(tabulate_audits([before.report, after.report]))


def test_the_result_survives_json() -> None:
    """The document is read back equal, and the same inputs give the same bytes."""
    policy = Policy(min_worst=0.3, max_gap=0.4, scope={"epsilon": "8/255", "attacks": "fast"})
    first, second = (judge_audit(policy, REPORT).model_dump_json() for _ in range(2))
    assert first == second
    assert GateResult.model_validate_json(first) == judge_audit(policy, REPORT)
