"""A policy that was signed before the audit is bound to the pack, with its signer and the time that they stated."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from faal_core.errors import InvalidSpec
from faal_core.evidence import sign_policy, verify_pack, write_pack
from faal_core.results.documents import AuditReport
from tests.evidence_packs import (
    forge,
    make_clean_batch,
    make_signer,
    read_members,
    read_statement,
    write_finetuning,
    write_sample,
)

POLICY = b"min_worst: 0.25\n"


@pytest.fixture
def report(tmp_path: Path) -> AuditReport:
    """Return a report whose files are in the folder `out`, beside a policy."""
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    return write_sample(tmp_path / "out")[0]


def _pack(folder: Path, **files: Any) -> Path:
    write_pack(folder / "pack.zip", folder / "out", policy=folder / "policy.yaml", **files)
    return folder / "pack.zip"


def _sign(folder: Path, time: datetime) -> Path:
    signer = make_signer(folder, "Ann, safety board", "board.pem")
    (folder / "policy.intoto.json").write_bytes(sign_policy(POLICY, "policy.yaml", signer, time))
    return folder / "policy.intoto.json"


@pytest.mark.parametrize(("hours", "is_before"), [(-3, True), (3, False)])
def test_the_signature_of_the_policy_is_reported(
    tmp_path: Path, report: AuditReport, hours: int, is_before: bool
) -> None:
    """The result has the signer, the key and the stated time, and whether it is before the audit; so has the page."""
    time = report.created_at + timedelta(hours=hours)
    pack = _pack(tmp_path, policy_signature=_sign(tmp_path, time))
    result = verify_pack(pack)
    signature = result.policy_signature
    assert result.verified
    assert signature is not None
    assert (signature.signer, signature.claimed_at, signature.before_audit) == ("Ann, safety board", time, is_before)
    order = "before the audit started" if is_before else "after the audit had started"
    assert order in next(check.sentence for check in result.checks if check.name == "policy")
    assert order in read_members(pack)["evidence.html"].decode()
    assert read_statement(pack)["predicate"]["faal"]["policy"]["signedBy"] == signature.key_id


def test_a_time_within_the_audit_is_not_before_it(tmp_path: Path, report: AuditReport) -> None:
    """A policy that was signed while the audit ran was not signed before it."""
    time = report.created_at - timedelta(seconds=1)
    result = verify_pack(_pack(tmp_path, policy_signature=_sign(tmp_path, time)))
    assert result.policy_signature is not None
    assert not result.policy_signature.before_audit


def test_the_policy_must_be_signed_by_the_given_key(tmp_path: Path, report: AuditReport) -> None:
    """The given key of the policy is required: another one, and a policy without a signature, are refused."""
    signed = _pack(tmp_path, policy_signature=_sign(tmp_path, report.created_at))
    key, other = make_signer(tmp_path).public_key, make_signer(tmp_path, file="other.pem").public_key
    assert not verify_pack(signed, policy_key=key).verified
    assert not verify_pack(_pack(tmp_path), policy_key=other).verified
    assert verify_pack(_pack(tmp_path)).verified


def test_a_signature_of_another_policy_is_refused(tmp_path: Path, report: AuditReport) -> None:
    """A pack whose policy was changed after it was signed is not written, and a forged one is refused."""
    signature = _sign(tmp_path, report.created_at)
    pack = _pack(tmp_path, policy_signature=signature)
    forge(pack, {"policy.yaml": b"min_worst: 0.05\n"})
    assert "signs another policy" in verify_pack(pack).checks[-2].sentence + str(verify_pack(pack).checks)
    (tmp_path / "policy.yaml").write_bytes(b"min_worst: 0.05\n")
    with pytest.raises(InvalidSpec, match="signs another policy"):
        _pack(tmp_path, policy_signature=signature)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("claimedAt", "2020-01-01T00:00:00Z"),
        ("claimedAt", "yesterday"),
        ("signer", "Bob"),
        ("signer", 5),
        ("publicKey", "x"),
    ],
)
def test_a_changed_signature_is_refused(tmp_path: Path, report: AuditReport, field: str, value: object) -> None:
    """A signature with another time, name or key than was signed makes no pack."""
    import base64

    from faal_core.evidence import strict_json

    path = _sign(tmp_path, report.created_at)
    sealed = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(sealed["payload"]))
    statement["predicate"][field] = value
    sealed["payload"] = base64.b64encode(strict_json.encode(statement)).decode()
    path.write_bytes(strict_json.encode(sealed) + b"\n")
    with pytest.raises(InvalidSpec, match=r"policy\.intoto\.json"):
        _pack(tmp_path, policy_signature=path)


def test_a_signature_without_its_policy_makes_no_pack(tmp_path: Path, report: AuditReport) -> None:
    """A policy's signature is of no use without the policy."""
    with pytest.raises(InvalidSpec, match="no policy"):
        write_pack(tmp_path / "pack.zip", tmp_path / "out", policy_signature=_sign(tmp_path, datetime.now(UTC)))


def test_the_start_of_a_resumed_audit_is_not_known(tmp_path: Path) -> None:
    """With a ledger the report times only the last run, so a policy is not said to be older than the audit."""
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    report, outcomes = write_sample(tmp_path / "out")
    (tmp_path / "audit.ledger").write_bytes(b'{"identity": "0"}\n' + make_clean_batch(outcomes) + b"\n")
    pack = _pack(tmp_path, policy_signature=_sign(tmp_path, report.created_at - timedelta(hours=3)))
    forge(pack, {"batches.jsonl": (tmp_path / "audit.ledger").read_bytes()})
    result = verify_pack(pack)
    assert result.policy_signature is not None
    assert result.policy_signature.before_audit is None
    sentence = next(check.sentence for check in result.checks if check.name == "policy")
    assert "before the last run of the audit began" in sentence


@pytest.mark.parametrize("resumed", [True, None])
def test_an_audit_that_may_have_been_resumed_has_no_known_start(tmp_path: Path, resumed: bool | None) -> None:
    """Where the report says that the audit was resumed, or is older, a policy is not said to be older than the audit."""
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    report, _ = write_sample(tmp_path / "out")
    older = {"resumed"} if resumed is None else None
    text = report.model_copy(update={"resumed": resumed}).model_dump_json(exclude=older)
    (tmp_path / "out/report.json").write_text(text)
    pack = _pack(tmp_path, policy_signature=_sign(tmp_path, report.created_at - timedelta(hours=3)))
    signature = verify_pack(pack).policy_signature
    assert signature is not None
    assert signature.before_audit is None
    page = read_members(pack)["evidence.html"].decode()
    assert "before the last run of the audit began; when its first run began is not known" in page
    assert "The last run of the audit was" in page


def test_the_pack_does_not_confirm_who_signed_the_policy(tmp_path: Path, report: AuditReport) -> None:
    """Page, statement and result say that the policy's signer may be anyone, unless the key is given."""
    board, service = make_signer(tmp_path, "board", "b.pem"), make_signer(tmp_path, "service", "s.pem")
    signature = sign_policy(POLICY, "policy.yaml", board, report.created_at - timedelta(hours=3))
    (tmp_path / "policy.intoto.json").write_bytes(signature)
    pack = _pack(tmp_path, policy_signature=tmp_path / "policy.intoto.json", signer=service)
    sentence = "The signature of the pack does not confirm who signed the policy."
    stranger = verify_pack(pack, public_key=service.public_key)
    assert stranger.policy_signature is not None
    assert (stranger.trusted, stranger.policy_signature.trusted) == (True, False)
    assert sentence in next(check.sentence for check in stranger.checks if check.name == "policy")
    assert sentence in read_members(pack)["evidence.html"].decode()
    assert read_statement(pack)["predicate"]["faal"]["policy"]["note"] == sentence
    known = verify_pack(pack, policy_key=board.public_key).policy_signature
    assert known is not None
    assert known.trusted


@pytest.mark.parametrize(
    ("hours", "words"), [(-3, "before the last run of the audit began"), (3, "after the last run")]
)
def test_a_fine_tuning_starts_with_its_first_audit(tmp_path: Path, hours: int, words: str) -> None:
    """Of a fine-tuning, the start of the audit before it counts."""
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    report = write_finetuning(tmp_path / "out", hours_between=10)
    pack = _pack(tmp_path, policy_signature=_sign(tmp_path, report.before.created_at + timedelta(hours=hours)))
    result = verify_pack(pack)
    assert result.verified
    assert result.policy_signature is not None
    assert result.policy_signature.before_audit is None
    assert words in read_members(pack)["evidence.html"].decode()


@pytest.mark.parametrize(
    "times",
    [
        {"created_at": "2026-11-23T04:05:00"},
        {"created_at": "0001-01-01T00:00:00Z"},
        {"created_at": "9999-12-31T23:59:59-12:00"},
        {"seconds": 1e300},
        {"seconds": -5.0},
    ],
)
def test_impossible_times_make_no_pack(tmp_path: Path, report: AuditReport, times: dict[str, object]) -> None:
    """A report whose times have no zone, or are beyond the calendar, is refused."""
    document = json.loads((tmp_path / "out/report.json").read_text())
    (tmp_path / "out/report.json").write_text(json.dumps(document | times))
    with pytest.raises(InvalidSpec, match="does not say when the audit ran"):
        _pack(tmp_path, policy_signature=_sign(tmp_path, report.created_at))


def test_times_of_other_zones_are_shown_in_utc(tmp_path: Path, report: AuditReport) -> None:
    """The page shows all times in UTC."""
    document = json.loads((tmp_path / "out/report.json").read_text())
    (tmp_path / "out/report.json").write_text(json.dumps(document | {"created_at": "2026-11-23T04:05:00+05:00"}))
    assert "2026-11-22 23:05 UTC" in read_members(_pack(tmp_path))["evidence.html"].decode()


@pytest.mark.parametrize(
    ("content", "name", "fault"),
    [
        (b"min_wurst: 0.25\n", "policy.yaml", "policy.yaml is no policy: min_wurst"),
        (b"min_worst: 25\n", "policy.yaml", "min_worst"),
        (b"{}", "policy.json", "policy.json is no policy"),
        (POLICY, "policy.json", "policy.json is not a policy in JSON"),
        (b"\x89PNG\r\n", "logo.png", "logo.png"),
    ],
)
def test_only_a_policy_is_signed(tmp_path: Path, content: bytes, name: str, fault: str) -> None:
    """A file that is no policy is refused before it is signed, with the fault."""
    with pytest.raises(InvalidSpec, match=re.escape(fault)):
        sign_policy(content, name, make_signer(tmp_path), datetime.now(UTC))


def test_a_name_that_is_no_text_is_refused(tmp_path: Path, report: AuditReport) -> None:
    """A signer's name that UTF-8 cannot encode is refused in a pack and in a policy's signature."""
    odd = make_signer(tmp_path, "\ud800", "odd.pem")
    pack = _pack(tmp_path)
    forge(pack, {}, odd)
    (check,) = (check for check in verify_pack(pack).checks if check.status == "failed")
    assert (check.name, "name as a text" in check.sentence) == ("statement", True)
    (tmp_path / "odd.json").write_bytes(sign_policy(POLICY, "policy.yaml", odd, report.created_at))
    with pytest.raises(InvalidSpec, match="no signature of a policy"):
        _pack(tmp_path, policy_signature=tmp_path / "odd.json")
