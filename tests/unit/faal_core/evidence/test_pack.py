"""A pack is written and verified, every change of it is refused, and other programs accept its statement."""

import base64
import json
import platform
import random
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from faal_core.errors import InvalidSpec
from faal_core.evidence import create_key, read_public_key, read_signer, verify_pack, write_pack
from faal_core.evidence.keys import Signer
from faal_core.evidence.merkle import compute_root
from tests.evidence_packs import (
    STATEMENT,
    forge,
    make_signer,
    read_members,
    read_statement,
    write_members,
    write_sample,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a key, an audit of 100 images, and its signed pack; no test changes them."""
    folder = tmp_path_factory.mktemp("sound")
    write_sample(folder / "out")
    write_pack(folder / "pack.zip", folder / "out", signer=make_signer(folder, "Ann, safety"))
    return folder


@pytest.fixture
def signer(folder: Path) -> Signer:
    """Return the signer of the pack."""
    return read_signer(folder / "key.pem", bytes, "Ann, safety")


@pytest.fixture
def pack(tmp_path: Path, folder: Path) -> Path:
    """Return a copy of the signed pack."""
    return Path(shutil.copy(folder / "pack.zip", tmp_path))


def _is_refused(pack: Path, signer: Signer) -> bool:
    return not verify_pack(pack, public_key=signer.public_key).verified


def test_a_pack_is_verified(pack: Path, signer: Signer) -> None:
    """The pack passes all checks that it has files for, and the result names its signer."""
    result = verify_pack(pack, public_key=signer.public_key)
    assert result.verified
    assert result.trusted
    assert (result.key_id, result.signer) == (signer.public_key.key_id, "Ann, safety")
    statuses = {check.name: check.status for check in result.checks}
    missing = {"policy", "gate", "batches", "adversarial", "pdf", "predictions"}
    assert {name for name, status in statuses.items() if status == "not-checked"} == missing
    assert set(statuses.values()) == {"passed", "not-checked"}


def test_without_a_key_nobody_is_trusted(pack: Path) -> None:
    """Without a public key the result names the key that signed, and says that its owner was not checked."""
    result = verify_pack(pack)
    assert result.verified
    assert not result.trusted
    assert result.key_id is not None


def test_another_key_is_refused(pack: Path, tmp_path: Path) -> None:
    """A pack that another key signed is refused."""
    other = make_signer(tmp_path, file="other.pem")
    assert _is_refused(pack, other)


def test_an_unsigned_pack(tmp_path: Path, folder: Path, signer: Signer) -> None:
    """A pack without a signature is verified as such, and refused where a key must have signed it."""
    result = write_pack(tmp_path / "pack.zip", folder / "out")
    assert result.verified
    assert result.key_id is None
    assert _is_refused(tmp_path / "pack.zip", signer)


def test_the_same_files_give_the_same_bytes(pack: Path, tmp_path: Path, folder: Path, signer: Signer) -> None:
    """Two packs of the same files are equal, byte by byte; without a signature only the page and the statement differ."""
    write_pack(tmp_path / "again.zip", folder / "out", signer=signer)
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()
    write_pack(tmp_path / "unsigned.zip", folder / "out")
    one, other = read_members(pack), read_members(tmp_path / "unsigned.zip")
    assert {name for name in one if one[name] != other[name]} == {STATEMENT, "evidence.html"}


def _flip(pack: Path, place: int, mask: int) -> bytes:
    content = bytearray(pack.read_bytes())
    content[place] ^= mask
    return bytes(content)


def _structure(content: bytes) -> set[int]:
    """Return the places of all bytes outside of the contents of the files, and of the statement."""
    places = set(range(content.rindex(b"evidence.html", content.index(b"PK\1\2")) - 500, len(content)))
    start = -1
    while (start := content.find(b"PK\3\4", start + 1)) >= 0:
        places |= set(range(start, start + 60))
    first = content.index(STATEMENT.encode())
    return {place for place in places | set(range(first, first + 6000)) if place < len(content)}


@pytest.mark.parametrize("is_key_given", [True, False])
def test_each_changed_byte_is_refused(pack: Path, tmp_path: Path, signer: Signer, is_key_given: bool) -> None:
    """A pack with one changed byte is refused: in a sample of all bytes, and in each header and the statement."""
    content, generator = pack.read_bytes(), random.Random(0)
    everywhere = generator.sample(range(len(content)), 300)
    places = sorted({*everywhere, *generator.sample(sorted(_structure(content)), 700)})
    changed = tmp_path / "changed.zip"
    key = signer.public_key if is_key_given else None
    for place in places:
        changed.write_bytes(_flip(pack, place, generator.randrange(1, 256)))
        assert not verify_pack(changed, public_key=key).verified, place


@pytest.mark.slow
def test_every_changed_byte_is_refused(pack: Path, tmp_path: Path) -> None:
    """A pack with any one changed byte is refused."""
    generator, changed = random.Random(0), tmp_path / "changed.zip"
    for place in range(pack.stat().st_size):
        changed.write_bytes(_flip(pack, place, generator.randrange(1, 256)))
        assert not verify_pack(changed).verified, place


def test_a_changed_byte_in_any_file_is_refused_in_a_sound_archive(pack: Path, tmp_path: Path, signer: Signer) -> None:
    """A changed byte of any file is refused also where the zip file was written again around it."""
    members, generator = read_members(pack), random.Random(1)
    changed = tmp_path / "changed.zip"
    for name, content in members.items():
        for place in generator.sample(range(len(content)), 12):
            other = bytearray(content)
            other[place] ^= generator.randrange(1, 256)
            write_members(changed, members | {name: bytes(other)})
            assert _is_refused(changed, signer), (name, place)


def test_added_and_missing_bytes_are_refused(pack: Path, tmp_path: Path, signer: Signer) -> None:
    """A pack with bytes before or after it, with a comment, or cut off, is refused."""
    content, changed = pack.read_bytes(), tmp_path / "changed.zip"
    comment = content[:-2] + (5).to_bytes(2, "little") + b"hello"
    for case in (b"x" + content, content + b"x", content[:-1], content[1:], comment, b"", content[:22], b"PK\5\6"):
        changed.write_bytes(case)
        assert _is_refused(changed, signer)


def test_files_that_the_statement_does_not_name_are_refused(pack: Path, tmp_path: Path, signer: Signer) -> None:
    """A known file that the statement does not name, an unknown one, and a missing one are refused."""
    members, changed = read_members(pack), tmp_path / "changed.zip"
    without = {name: content for name, content in members.items() if name != "sbom.cdx.json"}
    for case in (members | {"policy.yaml": b"x"}, members | {"readme.txt": b"x"}, without):
        write_members(changed, case)
        assert _is_refused(changed, signer)


def test_a_forger_with_another_key_is_noticed(pack: Path, tmp_path: Path, signer: Signer) -> None:
    """A pack that a forger signed again with a key of their own is refused by the given key, also with the old key id."""
    forger = make_signer(tmp_path, "Ann, safety", "forger.pem")
    forge(pack, {}, forger)
    assert verify_pack(pack, public_key=signer.public_key).checks[-1].name == "digests"
    assert _is_refused(pack, signer)
    sealed = json.loads(read_members(pack)[STATEMENT])
    sealed["signatures"][0]["keyid"] = signer.public_key.key_id
    content = json.dumps(sealed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    write_members(pack, read_members(pack) | {STATEMENT: content})
    assert not verify_pack(pack).verified


@pytest.mark.parametrize("is_key_given", [True, False])
def test_another_key_id_is_refused(pack: Path, signer: Signer, is_key_given: bool) -> None:
    """The signature's key id, which is not signed itself, must be that of the key in the statement."""
    sealed = json.loads(read_members(pack)[STATEMENT])
    sealed["signatures"][0]["keyid"] = "0" * 64
    content = json.dumps(sealed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    write_members(pack, read_members(pack) | {STATEMENT: content})
    result = verify_pack(pack, public_key=signer.public_key if is_key_given else None)
    assert [check.name for check in result.checks if check.status == "failed"] == ["signature"]


def test_in_toto_accepts_the_envelope(pack: Path, signer: Signer) -> None:
    """The libraries of in-toto and of its signatures accept envelope, signature and statement, and refuse another payload."""
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # exported without __all__

    key_id, raw = signer.public_key.key_id, signer.public_key.key.public_bytes_raw().hex()
    key = SSlibKey(key_id, "ed25519", "ed25519", {"public": raw})
    sealed = Envelope.from_dict(json.loads(read_members(pack)[STATEMENT]))
    assert sealed.payload_type == "application/vnd.in-toto+json"
    assert sealed.verify([key], 1) == {key_id: key}
    message = statement_pb2.Statement()
    json_format.Parse(sealed.payload.decode(), message)
    Statement.copy_from_pb(message).validate()
    assert message.predicate_type == "https://in-toto.io/attestation/test-result/v0.1"
    assert message.predicate["result"] in ("PASSED", "WARNED", "FAILED")
    sealed.payload += b" "
    with pytest.raises(VerificationError):
        sealed.verify([key], 1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_accepts_the_signature(pack: Path, tmp_path: Path, folder: Path) -> None:
    """OpenSSL verifies the signature with the written public key, over the message that DSSE defines."""
    sealed = json.loads(read_members(pack)[STATEMENT])
    payload, kind = base64.b64decode(sealed["payload"]), sealed["payloadType"].encode()
    (tmp_path / "message").write_bytes(b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload]))
    (tmp_path / "signature").write_bytes(base64.b64decode(sealed["signatures"][0]["sig"]))
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        str(folder / "key.pub.pem"),
        "-rawin",
        "-in",
        "message",
    ]
    answer = subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_the_package_list_is_valid_cyclonedx(pack: Path) -> None:
    """The list of packages follows the schema of CycloneDX 1.6, and names NumPy."""
    content = read_members(pack)["sbom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    assert "numpy" in {one["name"] for one in json.loads(content)["components"]}


def test_nothing_names_the_machine(pack: Path, tmp_path: Path) -> None:
    """No file of a pack names its host or a folder of it."""
    for name, content in read_members(pack).items():
        assert str(tmp_path).encode() not in content, name
        assert platform.node().encode() not in content, name


def test_the_statement_binds_the_outcomes_one_by_one(pack: Path) -> None:
    """The Merkle root is that of the rows as the documentation writes them."""
    (pack.parent / "o.parquet").write_bytes(read_members(pack)["outcomes.parquet"])
    rows = pq.read_table(pack.parent / "o.parquet").to_pylist()
    leaves = [
        json.dumps(
            [
                *(row[name] for name in ("image", "label", "clean_prediction", "attacked_prediction")),
                -1 if row["attack"] is None else row["attack"] - 1,
                *(row[name] for name in ("clean_margin", "margin")),
                row["distance"] or 0.0,
                row["sha256"] or "",
                row["group camera"],
            ],
            separators=(",", ":"),
        ).encode()
        for row in rows
    ]
    assert read_statement(pack)["predicate"]["faal"]["audits"][0]["merkleRoot"] == compute_root(leaves)


def test_paths_may_be_texts(tmp_path: Path, folder: Path) -> None:
    """Keys, reports, policies and packs are named by texts, as those of `faal.gate`."""
    (tmp_path / "policy.json").write_text('{"min_robust": 0.1}')
    create_key(f"{tmp_path}/key.pem")
    signer, public = read_signer(f"{tmp_path}/key.pem"), read_public_key(f"{tmp_path}/key.pub.pem")
    write_pack(f"{tmp_path}/a.zip", str(folder / "out"), policy=f"{tmp_path}/policy.json", signer=signer)
    assert verify_pack(f"{tmp_path}/a.zip", public_key=public).trusted


def test_files_that_do_not_belong_together_make_no_pack(tmp_path: Path) -> None:
    """A report without outcomes, and one with those of another audit, are refused before a pack is written."""
    write_sample(tmp_path / "out")
    write_sample(tmp_path / "other", images=11)
    output = tmp_path / "pack.zip"
    shutil.copy(tmp_path / "other/outcomes.parquet", tmp_path / "out/outcomes.parquet")
    with pytest.raises(InvalidSpec, match="outcomes"):
        write_pack(output, tmp_path / "out")
    (tmp_path / "out/outcomes.parquet").unlink()
    with pytest.raises(InvalidSpec, match="needs the outcomes"):
        write_pack(output, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="policy"):
        write_pack(output, tmp_path / "other", policy=tmp_path / "policy.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_a_pack_of_10_000_images_is_verified_within_a_minute(tmp_path: Path) -> None:
    """Writing and verifying take less than a minute together; on a quiet machine they take two seconds."""
    start = time.monotonic()
    write_sample(tmp_path / "out", images=1000)
    write_pack(tmp_path / "pack.zip", tmp_path / "out")
    assert verify_pack(tmp_path / "pack.zip").verified
    assert time.monotonic() - start < 60
