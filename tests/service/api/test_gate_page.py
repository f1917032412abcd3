"""The page that checks a report against limits: it judges as the API does, keeps what was entered, and names wrong fields."""

import json
from contextlib import closing
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient

from api.app import create_app
from faal_core.evidence import approval, create_key, read_signer, verify_pack
from faal_core.evidence.keys import parse_public_key
from faal_core.results.gates.documents import GateResult
from tests.evidence_packs import read_members, write_sample
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, sample_audit
from tests.service.api.conftest import SIGNER
from tests.service.api.test_gates import compare
from tests.service.api.test_packs import finish
from tests.service.api.test_pages import HOSTILE, SHOWN, Elements

FIELDS = {"min_worst": "20", "min_class": "shirt = 20.1\nbag=5 %\n", "attacks": "pgd-20", "epsilon": "8/255"}
SCOPE = {"norm": "linf", "attacks": "pgd-20", "epsilon": "8/255"}
POLICY = {"min_worst": 0.2, "min_class": {"shirt": 0.201, "bag": 0.05}, "scope": SCOPE}


@pytest.fixture
def audit_id(web) -> str:
    """Return the id of an audit that has succeeded."""
    job = web.audit()
    web.run(job)
    web.succeed(job)
    return job


def check(web, job: str, **fields: str) -> httpx.Response:
    """Send the form, and return the answer."""
    return web.client.post(f"/ui/jobs/{job}/gate", data=fields)


def attributes_of(page: httpx.Response, **wanted: str) -> dict[str, str | None]:
    """Return the attributes of the only element that has the wanted ones."""
    (one,) = [attributes for _, attributes in Elements(page).elements if wanted.items() <= attributes.items()]
    return one


def policy_sent(page: httpx.Response) -> str:
    """Return the text by which the forms of the page send the policy; all forms send the same one."""
    (text,) = {
        attributes["value"] for _, attributes in Elements(page).elements if attributes.get("name") == "policy_json"
    }
    return text or ""


def test_the_page_judges_as_the_api_does(web, audit_id) -> None:
    """The page of an audit leads to the form; its percentages are rates of the API; the result is shown and downloaded."""
    assert f'href="/ui/jobs/{audit_id}/gate"' in web.client.get(f"/ui/jobs/{audit_id}").text
    assert 'id="tolerance"' not in web.client.get(f"/ui/jobs/{audit_id}/gate").text
    expected = GateResult.model_validate_json(web.client.post(f"/jobs/{audit_id}/gate", json=POLICY).content)
    page = check(web, audit_id, **FIELDS)
    assert page.status_code == 200
    for one in expected.requirements:
        assert one.sentence.replace("'", "&#39;") in page.text
    assert attributes_of(page, id="min_worst")["value"] == "20"
    sent = policy_sent(page)
    assert yaml.safe_load(json.loads(sent)) == POLICY
    files = {
        name: check(web, audit_id, policy_json=sent, format=name) for name in ("json", "junit", "sarif", "markdown")
    }
    endings = [file.headers["Content-Disposition"].rpartition(".")[2] for file in files.values()]
    assert endings == ['json"', 'xml"', 'sarif"', 'md"']
    assert GateResult.model_validate_json(files["json"].content).requirements == expected.requirements
    assert ET.fromstring(files["junit"].content).get("tests") == str(len(expected.requirements))
    assert files["sarif"].json()["version"] == "2.1.0"
    assert files["markdown"].text.startswith("### Robustness gate")


def test_a_policy_file_is_kept_byte_for_byte(web, audit_id) -> None:
    """A chosen file is judged, shown as text and sent on with its own line ends; a field of the form replaces its value."""
    text = "# ours\r\nmin_worst: 0.2\r\nundecided: pass\r\n"
    page = web.client.post(f"/ui/jobs/{audit_id}/gate", files={"policy_file": ("policy.yaml", text.encode())})
    assert json.loads(policy_sent(page)) == text
    assert "# ours" in page.text
    page = check(web, audit_id, policy='{"min_worst": 0.2, "scope": {"attacks": "quick"}}', min_worst="99", epsilon="0")
    assert page.status_code == 422
    page = check(
        web, audit_id, policy='{"min_worst": 0.2, "scope": {"attacks": "quick"}}', min_worst="99", epsilon="0.1"
    )
    written = yaml.safe_load(json.loads(policy_sent(page)))
    assert written == {"min_worst": 0.99, "scope": {"norm": "linf", "attacks": "quick", "epsilon": "0.1"}}


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({}, "min_worst", "there is no limit"),
        ({"attacks": "quick"}, "min_worst", "there is no limit"),
        ({"min_worst": "120"}, "min_worst", "'120' is not a percentage"),
        ({"max_gap": "nan"}, "max_gap", "'nan' is not a percentage"),
        ({"min_class": "shirt = 20\nno such class = 2"}, "min_class", "has no 'no such class'"),
        ({"min_class": "shirt"}, "min_class", "has no name and limit"),
        ({"min_clean": "5", "epsilon": "8/0"}, "epsilon", "'8/0' is not a radius"),
        ({"tolerance": "1"}, "tolerance", "an audit without a baseline; compare it with an earlier audit, and judge"),
        ({"tolerance": "100"}, "tolerance", "'100' is too large"),
        ({"min_group": "camera = 5"}, "min_group", "has no 'camera'"),
        ({"policy": "min_worst: 2", "min_worst": "5"}, "policy", "min_worst: '2' should be less"),
        (
            {"policy": "scope: [1]\nmin_worst: 0.1", "attacks": "quick"},
            "policy",
            "scope: this should be an object with fields",
        ),
        ({"policy": "min_clean: 0.1\nscope:\n  model_sha256: x"}, "policy", "the text does not have the required form"),
        ({"min_class": "x" * 40_000, "min_worst": "33"}, "min_class", "more than 32,768 characters"),
        ({"policy": "#" * 40_000, "min_worst": "33"}, "policy", "more than 32,768 characters"),
        ({"policy": "min_wurst: 0.2"}, "policy", "min_wurst: there is no such field"),
        ({"policy": "{"}, "policy", "policy.yaml is not a policy in YAML"),
        ({"policy": "min_worst: 2", "min_clean": "5"}, "policy", "min_worst: '2' should be less"),
        ({"policy_json": '"\\ud800"'}, "policy", "was not sent completely"),
        ({"policy_json": "[" * 100_000}, "policy", "was not sent completely"),
        ({"policy": '{"min_class": {"\\ud800": 0.1}}'}, "policy", "no text in UTF-8"),
    ],
)
def test_an_error_is_shown_at_its_field(web, audit_id, fields, place, message) -> None:
    """A refused form answers 422, names the field with the reason, and keeps what was entered."""
    page = check(web, audit_id, **fields)
    assert page.status_code == 422
    assert message in page.text.replace("&#39;", "'")
    assert attributes_of(page, id=place)["aria-invalid"] == "true"
    for value in fields.values():
        assert "policy_json" in fields or value.replace("'", "&#39;").replace('"', "&#34;") in page.text


def test_a_comparison_has_a_baseline(web) -> None:
    """The page of a comparison asks for a tolerance and judges by it; a table of models is refused with the reason."""
    job = compare(web, ROBUST_AFTER, [0.3] * 10)
    assert 'id="tolerance"' in web.client.get(f"/ui/jobs/{job}/gate").text
    page = check(web, job, tolerance="1")
    assert "The gate failed" in page.text
    assert "Baseline: " in page.text
    table = compare(web, ROBUST_BEFORE, ROBUST_AFTER, ROBUST_BEFORE)
    assert f"/ui/jobs/{table}/gate" not in web.client.get(f"/ui/jobs/{table}").text
    assert "A table of models has no single audit to judge" in web.client.get(f"/ui/jobs/{table}/gate").text


def test_the_pack_has_the_policy_that_was_judged(web, tmp_path) -> None:
    """The page offers the pack with exactly this policy, and names the key; a wrong signature is an error at its field."""
    write_sample(tmp_path, images=5)
    job, text = finish(web, web.audit(), tmp_path), "# of the board\r\nmin_clean: 0.1\r\n"
    page = web.client.post(f"/ui/jobs/{job}/gate", files={"policy_file": ("policy.yaml", text.encode())})
    key = parse_public_key(web.client.get("/signing-key").json()["public_key"])
    assert f"Signed by {SIGNER}, key <code>{key.key_id}</code>" in page.text
    fields, address = {"policy_json": policy_sent(page)}, f"/ui/jobs/{job}/pack"
    answer = web.client.post(address, data=fields, files={"policy_signature": ("", b"")})
    assert answer.headers["Content-Disposition"] == f'attachment; filename="pack-{job}.zip"'
    (tmp_path / "pack.zip").write_bytes(answer.content)
    result = verify_pack(tmp_path / "pack.zip", public_key=key)
    assert (result.verified, result.trusted, result.gate_status) == (True, True, "pass")
    assert read_members(tmp_path / "pack.zip")["policy.yaml"] == text.encode()
    wrong = web.client.post(address, data=fields, files={"policy_signature": ("policy.intoto.json", b"{}")})
    assert (wrong.status_code, attributes_of(wrong, id="policy_signature")["aria-invalid"]) == (422, "true")
    assert "The gate passed" in wrong.text
    assert web.client.post(address, data={"policy_json": "x"}).status_code == 422


def test_a_signature_fits_after_a_second_check(web, tmp_path) -> None:
    """A browser sends the text of a file with other line ends; the signature of the file still fits, and else is explained."""
    write_sample(tmp_path, images=5)
    create_key(tmp_path / "board.pem")
    job, text = finish(web, web.audit(), tmp_path), "# of the board\nmin_clean: 0.1\n"
    board = read_signer(tmp_path / "board.pem", bytes)
    signature = approval.sign_policy(text.encode(), "policy.yaml", board, datetime(2026, 1, 1, tzinfo=UTC))
    page = web.client.post(f"/ui/jobs/{job}/gate", files={"policy_file": ("policy.yaml", text.encode())})
    shown = attributes_of(page, name="policy_as_read")["value"] or ""
    page = check(web, job, policy=text.replace("\n", "\r\n"), policy_as_read=shown)
    address, files = f"/ui/jobs/{job}/pack", {"policy_signature": ("policy.intoto.json", signature)}
    packed = web.client.post(address, data={"policy_json": policy_sent(page)}, files=files)
    assert packed.headers["Content-Type"] == "application/zip"
    (tmp_path / "pack.zip").write_bytes(packed.content)
    assert read_members(tmp_path / "pack.zip")["policy.yaml"] == text.encode()
    page = web.client.post(address, data={"policy_json": json.dumps(text.replace("\n", "\r\n"))}, files=files)
    assert "it signs this policy with other line ends" in page.text


def test_a_refused_pack_keeps_the_result(web, audit_id) -> None:
    """A pack that cannot be made leaves the result, the policy and its downloads on the page."""
    address, text = f"/ui/jobs/{audit_id}/pack", "min_clean: 0.1\n"
    page = web.client.post(address, data={"policy_json": json.dumps(text)})
    assert "Audit the model again" in page.text
    assert "The gate passed" in page.text
    assert json.loads(policy_sent(page)) == text
    no_text = {"policy_signature": ("policy.intoto.json", b"\xff")}
    page = web.client.post(address, data={"policy_json": json.dumps("min_wurst: 0.1")}, files=no_text)
    assert (page.status_code, "min_wurst: 0.1" in page.text) == (422, True)
    page = web.client.post(address, files={"policy_signature": ("policy.intoto.json", b"{}")})
    assert "there is no policy to sign" in page.text


def test_a_pack_needs_the_second_audit(web, tmp_path) -> None:
    """The page of a comparison whose second audit was deleted has no form for a pack, and says why."""
    job = compare(web, ROBUST_AFTER, [0.3] * 10)
    second = web.client.get(f"/jobs/{job}").json()["spec"]["jobs"][1]
    assert web.client.delete(f"/jobs/{second}").status_code == 204
    page = check(web, job, tolerance="1").text
    assert f"This audit, job {second}, was deleted, so the comparison cannot be packed." in page
    assert f'action="/ui/jobs/{job}/pack"' not in page


def test_a_file_above_the_limit_of_bodies_is_refused_on_a_page(web, audit_id) -> None:
    """A file of more than 1 MiB is answered with a page, not with JSON."""
    page = web.client.post(f"/ui/jobs/{audit_id}/gate", files={"policy_file": ("policy.yaml", b"#" * 1_100_000)})
    assert (page.status_code, page.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
    assert "at most 1,048,576 bytes" in page.text


def test_a_service_without_a_key_says_so(web, audit_id) -> None:
    """Without a signing key the page says that the pack is not signed; a report without outcomes makes no pack."""
    app = create_app(web.site.settings.model_copy(update={"signing_key": None, "signer": None}))
    with closing(app.state.service.sessions):
        page = TestClient(app, base_url="http://localhost").get(f"/ui/jobs/{audit_id}/gate")
    assert "Not signed: the service has no signing key." in page.text
    assert "Audit the model again" in page.text
    assert f'action="/ui/jobs/{audit_id}/pack"' not in page.text
    assert "Audit the model again" in web.client.post(f"/ui/jobs/{audit_id}/pack").text


def test_names_of_classes_are_only_text(web) -> None:
    """A hostile name of a class is text in the form, in the result and in the error."""
    job = web.audit()
    web.run(job)
    web.succeed(job, sample_audit((HOSTILE, "bag"), [0.4, 0.5]))
    for page in (
        web.client.get(f"/ui/jobs/{job}/gate"),
        check(web, job, min_class=f"{HOSTILE} = 90"),
        check(web, job, min_class=f"bag = 2\n{HOSTILE}2 = 1"),
    ):
        assert SHOWN in page.text
        assert not [tag for tag, _ in Elements(page).elements if tag == "img"]
