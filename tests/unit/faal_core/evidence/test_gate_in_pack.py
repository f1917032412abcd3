"""The policy of a pack is evaluated again, and another result than its own is refused."""

import json
from pathlib import Path

import pytest

from faal_core.errors import InvalidSpec
from faal_core.evidence import verify_pack, write_pack
from faal_core.evidence.archive import Member
from faal_core.evidence.gate_file import AS_STATED
from faal_core.evidence.pack import pack_members
from faal_core.results.comparison import compare
from faal_core.results.gates.baseline import PairedAudits
from faal_core.results.gates.documents import GateResult
from faal_core.results.gates.judging import judge_audit
from faal_core.specs import Policy
from tests.evidence_packs import forge, read_members, read_statement, write_sample
from tests.sample_reports import WARNING


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a pack with a policy that the audit does not meet."""
    write_sample(tmp_path / "out", images=30)
    (tmp_path / "policy.json").write_text(json.dumps({"min_robust": 0.95}))
    write_pack(tmp_path / "pack.zip", tmp_path / "out", policy=tmp_path / "policy.json")
    return tmp_path / "pack.zip"


def _failures(pack: Path) -> dict[str, tuple[str, ...]]:
    return {check.name: check.details for check in verify_pack(pack).checks if check.status == "failed"}


def test_the_policy_is_evaluated(pack: Path) -> None:
    """A pack that fails its policy is sound, and says that it fails."""
    result = verify_pack(pack)
    assert result.verified
    assert result.gate_status == "fail"
    (gate,) = (check for check in result.checks if check.name == "gate")
    assert gate.sentence == "The policy was evaluated again, with the same result: fail."


def test_a_better_result_is_refused(pack: Path) -> None:
    """A forger who turns the result into a pass is refused with the changed fields."""
    gate = json.loads(read_members(pack)["gate.json"])
    gate["status"], gate["passed"], gate["requirements"][0]["status"] = "pass", True, "pass"
    forge(pack, {"gate.json": json.dumps(gate).encode()})
    assert {"status", "passed", "requirements[0].status"} <= set(_failures(pack)["gate"])


def test_a_result_of_another_policy_or_audit_is_refused(tmp_path: Path, pack: Path) -> None:
    """The result of a weaker policy, of another audit, and other files are refused."""
    report, _ = write_sample(tmp_path / "other", images=31)
    other = judge_audit(Policy(min_robust=0.95), report).model_dump_json().encode()
    weaker = json.loads(read_members(pack)["gate.json"])
    weaker["policy"]["min_robust"] = 0.1
    for content in (other, json.dumps(weaker).encode(), b"{}", b"[" * 100_000):
        forge(pack, {"gate.json": content})
        assert "gate" in _failures(pack)
    for policy in (b"{}", b'{"min_robust": 0.95, "min_robust": 0.1}', b'{"min_robust": 2}', b"[" * 100_000):
        forge(pack, {"policy.json": policy})
        assert _failures(pack)


def test_limits_of_options_are_not_those_of_the_policy(tmp_path: Path, pack: Path) -> None:
    """A result to which options added limits makes no pack with the policy's file."""
    report, _ = write_sample(tmp_path / "out", images=30)
    result = judge_audit(Policy(min_robust=0.95, min_clean=0.5), report)
    (tmp_path / "gate.json").write_text(result.model_dump_json())
    with pytest.raises(InvalidSpec, match="Write all limits into the policy"):
        write_pack(pack, tmp_path / "out", policy=tmp_path / "policy.json", gate_result=tmp_path / "gate.json")


def test_a_baseline_is_not_evaluated_again(tmp_path: Path) -> None:
    """Without its own result, a policy with a baseline makes no pack of files; in a service's pack it is bound, not evaluated."""
    write_sample(tmp_path / "out", images=30)
    (tmp_path / "policy.json").write_text(json.dumps({"baseline": {}}))
    with pytest.raises(InvalidSpec, match="needs the result of the gate") as error:
        write_pack(tmp_path / "pack.zip", tmp_path / "out", policy=tmp_path / "policy.json")
    assert error.value.remedy == "gate-result"
    files = (tmp_path / "out/report.json", tmp_path / "out/outcomes.parquet", tmp_path / "policy.json")
    result = pack_members(tmp_path / "pack.zip", {file.name: Member.from_file(file) for file in files})
    assert result.verified
    assert "gate.json" not in read_members(tmp_path / "pack.zip")


BASELINE = {"min_robust": 0.5, "baseline": {}, "scope": {"epsilon": 0.1}}


def _judge_with_baseline(folder: Path, policy: dict[str, object] = BASELINE, *, has_fallen: bool = False) -> GateResult:
    """Write an audit and a policy, and return the result of the policy with an equal baseline.

    Args:
        has_fallen: whether every image was robust in the baseline instead, whose gradients were zero.
    """
    report, outcomes = write_sample(folder / "out", images=30)
    warnings = (WARNING.model_copy(update={"code": "zero-gradient"}),) if has_fallen else ()
    (folder / "policy.json").write_text(json.dumps(policy))
    one, names = outcomes.evaluation, report.dataset.class_names
    clean = compare(one.labels, one.correct, one.correct, names, 0.95)
    robust = compare(one.labels, one.robust | has_fallen, one.robust, names, 0.95)
    baseline = report.model_copy(update={"warnings": warnings})
    return judge_audit(Policy.model_validate(policy), report, PairedAudits(baseline, clean, robust))


def _pack_result(folder: Path, result: dict[str, object]) -> Path:
    (folder / "gate.json").write_text(json.dumps(result))
    files = {"policy": folder / "policy.json", "gate_result": folder / "gate.json"}
    write_pack(folder / "pack.zip", folder / "out", **files)
    return folder / "pack.zip"


def test_a_result_with_an_absent_baseline_is_only_stated(tmp_path: Path) -> None:
    """A pack without the baseline never says by itself that the policy is met."""
    result = _judge_with_baseline(tmp_path)
    assert result.status == "pass"
    pack = _pack_result(tmp_path, result.model_dump(mode="json"))
    verified = verify_pack(pack)
    assert verified.verified
    assert (verified.gate_status, verified.stated_gate_status) == (None, "pass")
    assert AS_STATED in next(check.sentence for check in verified.checks if check.name == "gate")
    assert AS_STATED in read_members(pack)["evidence.html"].decode()
    predicate = read_statement(pack)["predicate"]
    assert predicate["result"] == "WARNED"
    assert predicate["faal"]["policy"]["result"] == AS_STATED
    assert set(predicate["passedTests"]) == {"scope.norm", "scope.epsilon", "min_robust"}
    assert len(predicate["warnedTests"]) == 4


def test_a_fall_from_an_absent_baseline_with_a_warning_is_undecided(tmp_path: Path) -> None:
    """A pack takes the result of falls that are undecided since the baseline's rates may be too high."""
    result = _judge_with_baseline(tmp_path, has_fallen=True)
    assert result.status == "undecided"
    assert "shirt" in {one.subject for one in result.requirements if one.status == "undecided"}
    assert verify_pack(_pack_result(tmp_path, result.model_dump(mode="json"))).verified


def test_a_fall_is_undecided_with_a_warning_of_the_baseline_alone(tmp_path: Path) -> None:
    """An undecided fall needs a warning of the baseline that the policy does not accept, and each row has the gate's sentence."""
    policy = {"undecided": "pass", "baseline": {}}
    doubtful = _judge_with_baseline(tmp_path, policy, has_fallen=True)
    assert (doubtful.passed, doubtful.baseline_warnings, doubtful.baseline_complete) == (True, ("zero-gradient",), True)
    forgeries = [
        doubtful.model_copy(update={"baseline_warnings": warnings}) for warnings in ((), ("gradients-vanish",))
    ]
    for place, fall in enumerate(doubtful.requirements):
        kind = f"The robust accuracy of no class fell. {fall.sentence}"
        rows = [*doubtful.requirements[:place], fall.model_copy(update={"sentence": kind})]
        forgeries.append(doubtful.model_copy(update={"requirements": (*rows, *doubtful.requirements[place + 1 :])}))
    for forgery in forgeries:
        with pytest.raises(InvalidSpec, match="requirements of the baseline"):
            _pack_result(tmp_path, forgery.model_dump(mode="json"))
    accepting = policy | {"accept_warnings": ["zero-gradient"]}
    (tmp_path / "policy.json").write_text(json.dumps(accepting))
    forgery = doubtful.model_copy(update={"policy": Policy.model_validate(accepting)})
    with pytest.raises(InvalidSpec, match="requirements of the baseline"):
        _pack_result(tmp_path, forgery.model_dump(mode="json"))


def _change(row: int, **fields: object) -> object:
    return lambda result: result["requirements"][row].update(fields)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda result: result.update(status="pass"), "status"),
        (lambda result: result.update(passed=True), "passed"),
        (lambda result: result.update(baseline=None), "baseline"),
        (lambda result: result.update(baseline_complete=None), "baseline_complete"),
        (lambda result: result.update(interval_confidence=0.9), "interval_confidence"),
        (lambda result: result["requirements"].pop(2), "requirements"),
        (lambda result: result["requirements"].pop(), "requirements"),
        (lambda result: result.update(requirements=result["requirements"][:3]), "requirements"),
        (lambda result: result["requirements"].append(result["requirements"][-1]), "requirements"),
        (_change(1, status="fail"), "requirements[1].status"),
        (_change(2, status="pass"), "requirements[2].status"),
        (_change(2, low=0.96), "requirements[2].low"),
        (_change(3, limit=0.5), "requirements of the baseline"),
        (_change(3, status="fail"), "requirements of the baseline"),
        (_change(3, p_adjusted=0.0), "requirements of the baseline"),
        (_change(4, subject="bag"), "requirements of the baseline"),
        (_change(5, value="0"), "requirements of the baseline"),
        (_change(5, value=0.001), "requirements of the baseline"),
        (_change(6, high=-0.5), "requirements of the baseline"),
    ],
)
def test_a_stated_result_must_follow_from_its_parts(tmp_path: Path, change: object, path: str) -> None:
    """Of a result whose baseline is not in the pack, all that the report decides is evaluated again."""
    result = _judge_with_baseline(tmp_path, BASELINE | {"min_robust": 0.95}).model_dump(mode="json")
    assert (result["status"], result["passed"]) == ("fail", False)
    change(result)
    with pytest.raises(InvalidSpec, match="contradict each other, or the report") as error:
        _pack_result(tmp_path, result)
    assert path in str(error.value)


def test_an_invented_pass_is_refused(tmp_path: Path) -> None:
    """A result without requirements that says it passed is refused, also in a forged pack."""
    result = _judge_with_baseline(tmp_path)
    pack = _pack_result(tmp_path, result.model_dump(mode="json"))
    invented = result.model_copy(update={"requirements": ()})
    forge(pack, {"gate.json": invented.model_dump_json().encode()})
    assert "requirements" in " ".join(_failures(pack)["gate"])


def test_a_wrong_field_of_a_policy_is_named(tmp_path: Path) -> None:
    """The error of a wrong policy names the field."""
    write_sample(tmp_path / "out")
    (tmp_path / "policy.json").write_text(json.dumps({"min_robust": 0.5, "min_wurst": 0.2}))
    with pytest.raises(InvalidSpec, match="min_wurst"):
        write_pack(tmp_path / "pack.zip", tmp_path / "out", policy=tmp_path / "policy.json")
