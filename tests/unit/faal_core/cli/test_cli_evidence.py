"""faal pack, faal verify, faal sign and faal create-key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from faal_core.results.documents import PRODUCT
from tests.command_line import AUDIT, run_faal
from tests.evidence_packs import forge, write_sample


def test_a_policy_is_signed_an_audit_packed_and_the_pack_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the how-to page work one after another, and every image is predicted again.

    The ledger of another audit is refused; that of another version of FAAL is not compared.
    """
    (folder / "policy.yaml").write_text("min_worst: 0.25\n")

    def run(*arguments: str) -> int:
        return run_faal(monkeypatch, folder, *arguments)

    assert run("create-key", "key.pem") == 0
    assert run("sign", "policy.yaml", "--key", "key.pem", "--signer", "Ann") == 0
    options = (
        "--epsilon",
        "8/255",
        "--images",
        "30",
        "--ledger",
        "audit.ledger",
        "--save-adversarial",
        "adversarial.npy",
    )
    assert run(*AUDIT, *options) == 0
    extras = ("--policy", "policy.yaml", "--policy-signature", "policy.intoto.json", "--ledger", "audit.ledger")
    sign = ("--sign", "key.pem", "--signer", "Bob")
    assert run("pack", "out", *extras, "--adversarial", "adversarial.npy", "--pdf", *sign) == 0
    capsys.readouterr()
    again = ("--weights", "net.safetensors", "--dataset", "rows.npz")
    assert run("verify", "pack.zip", "--key", "key.pub.pem", "--policy-key", "key.pub.pem", *again) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "pack.zip: verified, the given key signed it; the result of the policy is undecided"
    assert not any(line.startswith("failed") for line in lines)
    assert not any(line.startswith("not-checked") for line in lines)
    assert run("verify", "pack.zip", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["verified"], result["trusted"], result["signer"]) == (True, False, "Bob")
    assert result["policy_signature"]["signer"] == "Ann"
    header, batches = (folder / "audit.ledger").read_bytes().split(b"\n", 1)
    other_header = json.dumps(json.loads(header) | {"identity": "0" * 64}).encode()
    (folder / "audit.ledger").write_bytes(other_header + b"\n" + batches)
    assert run("pack", "out", "--ledger", "audit.ledger") == 1
    assert "The ledger is of another audit: its weights, images" in capsys.readouterr().err
    assert run("pack", "out") == 0
    forge(folder / "pack.zip", {"batches.jsonl": (folder / "audit.ledger").read_bytes()})
    assert run("verify", "pack.zip") == 3
    assert "The ledger is of another audit: its weights, images" in capsys.readouterr().out
    report = (folder / "out/report.json").read_text()
    (folder / "out/report.json").write_text(report.replace(f'"product": "{PRODUCT}"', '"product": "FAAL 0.0.9"'))
    assert run("pack", "out", "--ledger", "audit.ledger") == 0
    assert run("verify", "pack.zip") == 0
    assert "FAAL 0.0.9 wrote the report" in capsys.readouterr().out


def test_a_refused_pack_has_status_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed check gives status 3, with the check and the field; other files and wrong options have their own status."""
    write_sample(tmp_path / "out")
    assert run_faal(monkeypatch, tmp_path, "pack", "out") == 0
    assert "not signed" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/report.json").read_text())
    report["robust"]["worst"]["value"] = 0.9
    forge(tmp_path / "pack.zip", {"report.json": json.dumps(report).encode()})
    assert run_faal(monkeypatch, tmp_path, "verify", "pack.zip") == 3
    output = capsys.readouterr().out
    assert "robust.worst.value" in output
    assert output.rstrip().endswith("pack.zip: REFUSED")
    (tmp_path / "pack.zip").write_bytes(b"no pack")
    assert run_faal(monkeypatch, tmp_path, "verify", "pack.zip") == 3
    assert run_faal(monkeypatch, tmp_path, "verify", "missing.zip") == 2
    assert run_faal(monkeypatch, tmp_path, "verify", "pack.zip", "--dataset", "cifar10") == 2
    assert run_faal(monkeypatch, tmp_path, "pack", "out", "--signer", "Ann") == 2
    capsys.readouterr()
    assert run_faal(monkeypatch, tmp_path, "pack", "out", "-o", "nope/x.zip") == 1
    assert capsys.readouterr().err == "faal: [Errno 2] No such file or directory: 'nope'\n"
    assert run_faal(monkeypatch, tmp_path, "verify", "pack.zip", "--key", "pack.zip") == 1


def test_an_encrypted_key_reads_its_passphrase_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """FAAL_KEY_PASSPHRASE opens an encrypted key, and a key that others may read is refused."""
    from faal_core.evidence import create_key

    create_key(tmp_path / "key.pem", b"secret")
    (tmp_path / "policy.yaml").write_text("min_worst: 0.25\n")
    sign = ("sign", "policy.yaml", "--key", "key.pem")
    monkeypatch.setenv("FAAL_KEY_PASSPHRASE", "wrong")
    assert run_faal(monkeypatch, tmp_path, *sign) == 1
    monkeypatch.setenv("FAAL_KEY_PASSPHRASE", "secret")
    assert run_faal(monkeypatch, tmp_path, *sign) == 0
    (tmp_path / "key.pem").chmod(0o644)
    assert run_faal(monkeypatch, tmp_path, *sign) == 1
    assert "chmod 600" in capsys.readouterr().err


def test_a_pack_is_verified_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights, `faal verify` imports no torch."""
    write_sample(tmp_path / "out")
    assert run_faal(monkeypatch, tmp_path, "pack", "out") == 0
    program = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'torchvision', 'safetensors', 'altair')); "
        "sys.argv = ['faal', 'verify', 'pack.zip']; from faal_core.cli import main; main()"
    )
    root = Path(__file__).parents[4]
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "verified" in answer.stdout


def test_a_policy_with_a_baseline_is_gated_and_then_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pack without the gate's result is refused with the commands to run, which make a pack, also of a first audit."""
    write_sample(tmp_path / "out", images=30)
    (tmp_path / "policy.yaml").write_text("min_robust: 0.1\nbaseline:\n  tolerance: 0.02\n")
    pack = ("pack", "out", "--policy", "policy.yaml")
    assert run_faal(monkeypatch, tmp_path, *pack) == 1
    assert "--json > gate.json" in capsys.readouterr().err
    assert run_faal(monkeypatch, tmp_path, "gate", "out", "--policy", "policy.yaml", "--baseline", "out", "--json") == 0
    (tmp_path / "gate.json").write_text(capsys.readouterr().out)
    assert run_faal(monkeypatch, tmp_path, *pack, "--gate-result", "gate.json") == 0
    assert run_faal(monkeypatch, tmp_path, "verify", "pack.zip") == 0


def test_an_existing_key_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the file, and is no message of the operating system."""
    (tmp_path / "key.pub.pem").touch()
    assert run_faal(monkeypatch, tmp_path, "create-key", "key.pem") == 2
    error = capsys.readouterr().err
    assert "key.pub.pem exists: name another file" in error
    assert "Errno" not in error


def test_a_wrong_policy_is_not_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy with a wrong field is not signed, and the error names the field."""
    assert run_faal(monkeypatch, tmp_path, "create-key", "key.pem") == 0
    for content, words in (("min_wurst: 0.25\n", "min_wurst"), ("min_worst: 2\n", "min_worst"), ("[", "not a policy")):
        (tmp_path / "policy.yaml").write_text(content)
        assert run_faal(monkeypatch, tmp_path, "sign", "policy.yaml", "--key", "key.pem") in (1, 2)
        assert words in capsys.readouterr().err
    assert not (tmp_path / "policy.intoto.json").exists()


def test_no_input_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`faal sign` replaces no file, and `faal pack` none of its inputs."""
    write_sample(tmp_path / "out")
    (tmp_path / "policy.json").write_text('{"min_worst": 0.25}')
    assert run_faal(monkeypatch, tmp_path, "create-key", "key.pem") == 0
    sign = ("sign", "policy.json", "--key", "key.pem")
    assert run_faal(monkeypatch, tmp_path, *sign) == 0
    inputs = ("policy.json", "policy.intoto.json", "key.pem", "out/report.json", "out/outcomes.parquet")
    before = {name: (tmp_path / name).read_bytes() for name in inputs}
    assert run_faal(monkeypatch, tmp_path, *sign) == 2
    for name in inputs:
        assert run_faal(monkeypatch, tmp_path, *sign, "-o", name) == 2
        extras = ("--policy", "policy.json", "--policy-signature", "policy.intoto.json", "--sign", "key.pem")
        assert run_faal(monkeypatch, tmp_path, "pack", "out", *extras, "-o", name) in (1, 2)
    assert before == {name: (tmp_path / name).read_bytes() for name in inputs}
