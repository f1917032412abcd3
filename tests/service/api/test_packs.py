"""Evidence packs over HTTP: the service packs a report as the library does, and signs it with its own key."""

import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.serving import packs
from faal_client import Client
from faal_client.digests import format_digest
from faal_core.evidence import VerificationResult, approval, create_key, read_signer, verify_pack
from faal_core.evidence.keys import parse_public_key
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.outcomes import PARQUET_TYPE
from faal_core.results.reading import StoredAudit, list_audits, read_audit, read_report
from jobs import lifecycle
from tests.evidence_packs import read_members, write_finetuning, write_sample
from tests.sample_reports import sample_audit
from tests.service.api.conftest import FINETUNE, SIGNER, Web

POLICY = "# limits of the board\r\nmin_worst: 0.01\r\nmin_clean: 0.1\r\n"
BASELINE = '{"min_worst": 0.01, "baseline": {"tolerance": 0.01}}'


@pytest.fixture(scope="module")
def tuning(tmp_path_factory) -> Path:
    """Return a folder with the report of a fine-tuning and its outcomes; the folder `before` in it has the first audit alone."""
    folder = tmp_path_factory.mktemp("tuning")
    report = write_finetuning(folder)
    (folder / "before").mkdir()
    (folder / "before" / "report.json").write_text(report.before.model_dump_json())
    copyfile(folder / "outcomes-before.parquet", folder / "before" / "outcomes.parquet")
    return folder


@pytest.fixture
def audit_id(web, tmp_path) -> str:
    """Return the id of an audit that has succeeded, with outcomes."""
    write_sample(tmp_path / "audit", images=20)
    return finish(web, web.audit(), tmp_path / "audit")


def finish(web: Web, job_id: str, folder: Path) -> str:
    """Let a queued job succeed with the report and the outcomes in the folder, and return its id."""
    web.run(job_id)
    document = (folder / "report.json").read_text()
    stored = {
        name: web.site.storage.put([(folder / name).read_bytes()], media_type=PARQUET_TYPE)
        for name in list_audits(read_report(document))
    }
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, job_id, 1, report=document, outcomes=stored)
    return job_id


def compare(web: Web, jobs: list[str], *audits: StoredAudit) -> str:
    """Return the id of a finished comparison of those jobs."""
    job = web.client.post("/jobs/compare", json={"jobs": jobs}).json()["id"]
    web.run(job)
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, job, 1, report=compare_audits(*audits).model_dump_json())
    return job


def pack(web: Web, job_id: str, file: Path, policy: str | None = None) -> VerificationResult:
    """Save the pack of a job, and return the result of its verification."""
    answer = web.client.post(f"/jobs/{job_id}/pack", json={"policy": policy})
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return verify_pack(file)


def test_a_pack_is_signed_with_the_served_key(web, audit_id, tmp_path) -> None:
    """The client's pack has the policy as its board signed it, and verifies with the key that the service serves."""
    create_key(tmp_path / "board.pem")
    board = read_signer(tmp_path / "board.pem", bytes, "safety board")
    (tmp_path / "policy.yaml").write_bytes(POLICY.encode())
    signature = approval.sign_policy(POLICY.encode(), "policy.yaml", board, datetime(2026, 1, 1, tzinfo=UTC))
    (tmp_path / "policy.intoto.json").write_bytes(signature)
    parts = {"policy": tmp_path / "policy.yaml", "policy_signature": tmp_path / "policy.intoto.json"}
    with Client(str(web.client.base_url)) as client:
        file, served = client.pack(audit_id, tmp_path / "pack.zip", **parts), client.signing_key()
    key = parse_public_key(served.public_key)
    result = verify_pack(file, public_key=key, policy_key=board.public_key)
    assert (result.verified, result.trusted, result.gate_status) == (True, True, "pass")
    assert (result.key_id, result.signer) == (served.key_id, served.signer) == (key.key_id, SIGNER)
    assert result.policy_signature is not None
    assert (result.policy_signature.signer, result.policy_signature.before_audit) == ("safety board", True)
    members = read_members(file)
    assert members["policy.yaml"] == POLICY.encode()
    assert members["report.json"].decode() == web.client.get(f"/jobs/{audit_id}/report").text
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert not verify_pack(file, public_key=key).verified


def test_the_answer_is_a_file_that_names_its_key(web, audit_id, tmp_path) -> None:
    """The answer has name, digest and key of the file. A service without a key signs nothing, and says so."""
    answer = web.client.post(f"/jobs/{audit_id}/pack", json={}, headers={"Range": "bytes=0-3"})
    served = web.client.get("/signing-key").json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="pack-{audit_id}.zip"'
    assert answer.headers["Repr-Digest"] == format_digest(hashlib.sha256(answer.content).hexdigest())
    assert answer.headers["FAAL-Pack-Key"] == served["key_id"]
    keyless = web.site.settings.model_copy(update={"signing_key": None, "signer": None})
    app = create_app(keyless)
    with closing(app.state.service.sessions):
        service = TestClient(app, base_url="http://localhost")
        answer, missing = service.post(f"/jobs/{audit_id}/pack", json={}), service.get("/signing-key")
    (tmp_path / "pack.zip").write_bytes(answer.content)
    result = verify_pack(tmp_path / "pack.zip")
    assert (result.verified, result.key_id, "FAAL-Pack-Key" in answer.headers) == (True, None, False)
    assert (missing.status_code, missing.json()["code"]) == (404, "signing-key-not-found")


def test_a_comparison_is_packed_as_its_second_audit(web, audit_id, tmp_path) -> None:
    """The pack is of the second audit, and has the result of the policy with the first audit as its baseline."""
    audit = read_audit(tmp_path / "audit")
    job = compare(web, [audit_id, finish(web, web.audit(), tmp_path / "audit")], audit, audit)
    assert pack(web, job, tmp_path / "pack.zip", BASELINE).verified
    members = read_members(tmp_path / "pack.zip")
    assert read_report(members["report.json"]) == audit.report
    assert json.loads(members["gate.json"]) == web.client.post(f"/jobs/{job}/gate", json=json.loads(BASELINE)).json()
    assert members["policy.json"].decode() == BASELINE
    assert pack(web, job, tmp_path / "plain.zip", POLICY).gate_status == "pass"


def test_a_comparison_whose_second_audit_was_deleted_is_no_pack(web, audit_id, problem, tmp_path) -> None:
    """The problem names the situation and the deleted job; `find_obstacle` says the same before anyone asks for the pack."""
    audit = read_audit(tmp_path / "audit")
    second = finish(web, web.audit(), tmp_path / "audit")
    job = compare(web, [audit_id, second], audit, audit)
    app = create_app(web.site.settings)
    with closing(app.state.service.sessions):
        assert packs.find_obstacle(app.state.service, job) is None
        assert web.client.delete(f"/jobs/{second}").status_code == 204
        answer = problem(web.client.post(f"/jobs/{job}/pack", json={}))
        assert (answer["status"], answer["code"]) == (422, "invalid-spec")
        assert f"job {second}, was deleted" in answer["detail"]
        assert packs.find_obstacle(app.state.service, job) == answer["detail"]


def test_a_fine_tuning_has_a_baseline_of_its_own(web, tuning, tmp_path) -> None:
    """A fine-tuning is packed with both audits; as the second job of a comparison, with the audit of its new weights alone."""
    job = finish(web, web.client.post("/jobs/finetune", json=FINETUNE | {"model": web.model()}).json()["id"], tuning)
    result = pack(web, job, tmp_path / "pack.zip", BASELINE)
    gate = web.client.post(f"/jobs/{job}/gate", json=json.loads(BASELINE)).json()
    assert (result.verified, result.gate_status) == (True, gate["status"])
    before, after = read_audit(tuning / "before"), read_audit(tuning)
    comparison = compare(web, [finish(web, web.audit(), tuning / "before"), job], before, after)
    assert pack(web, comparison, tmp_path / "pack.zip", BASELINE).verified
    assert read_report(read_members(tmp_path / "pack.zip")["report.json"]) == after.report


def test_wrong_requests_are_refused_at_their_field(web, audit_id, problem, tmp_path) -> None:
    """A policy that cannot be used, a signature of another policy, and reports without evidence are problems; no pack is made."""
    create_key(tmp_path / "board.pem")
    board = read_signer(tmp_path / "board.pem", bytes)
    signature = approval.sign_policy(b"min_worst: 0.5", "policy.yaml", board, datetime(2026, 1, 1, tzinfo=UTC)).decode()
    for body, pointer, phrase in (
        ({"policy": "min_wurst: 0.2"}, "/policy", "min_wurst: there is no such field"),
        ({"policy": "min_worst: [0.2"}, "/policy", "not a policy in YAML"),
        ({"policy": '{"min_worst": 0.1, "min_worst": 0.2}'}, "/policy", "occurs twice"),
        ({"policy": "[" * 30_000}, "/policy", "not a policy"),
        ({"policy": "x" * 40_000}, "/policy", "at most"),
        ({"policy": BASELINE}, "/policy", "POST /jobs/compare"),
        ({"policy": "min_class: {no such class: 0.2}"}, "/policy", "no such class"),
        ({"policy_signature": signature}, "/policy_signature", "there is no policy"),
        ({"policy": POLICY, "policy_signature": signature}, "/policy_signature", "it signs another policy"),
        ({"policy": POLICY, "policy_signature": "{}"}, "/policy_signature", "it is no DSSE envelope"),
    ):
        answer = problem(web.client.post(f"/jobs/{audit_id}/pack", json=body))
        assert (answer["code"], answer["errors"][0]["pointer"]) == ("invalid-request", pointer), answer
        assert phrase in answer["detail"]
    report, large = sample_audit(), web.audit()
    web.run(large)
    dataset = report.dataset.model_copy(update={"images": 100_001})
    web.succeed(large, report.model_copy(update={"dataset": dataset}), audit=b"unread")
    assert "at most 100,000 images" in problem(web.client.post(f"/jobs/{large}/pack", json={}))["detail"]
    waiting = web.audit()
    assert problem(web.client.post(f"/jobs/{waiting}/pack", json={}))["code"] == "job-state-conflict"
    web.run(waiting)
    web.succeed(waiting)
    assert problem(web.client.post(f"/jobs/{waiting}/pack", json={}))["code"] == "outcomes-not-found"
