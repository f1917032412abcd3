"""The policy of a pack is evaluated again, and another result than its own is refused."""

import json
from pathlib import Path

import pytest

from faal_core.errors import InvalidSpec
from faal_core.evidence import verify_pack, write_pack
from faal_core.results.gates.judging import judge_audit
from faal_core.specs import Policy
from tests.evidence_packs import forge, read_members, write_sample


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
    """Without its own result, a policy with a baseline is bound to the pack and not evaluated."""
    write_sample(tmp_path / "out", images=30)
    (tmp_path / "policy.json").write_text(json.dumps({"baseline": {}}))
    result = write_pack(tmp_path / "pack.zip", tmp_path / "out", policy=tmp_path / "policy.json")
    assert result.verified
    assert "gate.json" not in read_members(tmp_path / "pack.zip")
