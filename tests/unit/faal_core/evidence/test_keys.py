"""Keys are written so that only their owner reads them, and wrong keys are refused."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from faal_core.errors import InvalidSpec
from faal_core.evidence import create_key, read_public_key, read_signer, verify_pack, write_pack
from tests.evidence_packs import make_signer, write_sample


def _no_passphrase() -> bytes:
    raise AssertionError("no passphrase is needed")


def test_a_new_key_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    """The private key has mode 600, the public key belongs to it, and neither replaces a file."""
    public = create_key(tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    signer = read_signer(tmp_path / "key.pem", _no_passphrase)
    assert signer.public_key.key_id == public.key_id == read_public_key(tmp_path / "key.pub.pem").key_id
    assert public.has_signed(b"message", signer.sign(b"message"))
    assert not public.has_signed(b"messagf", signer.sign(b"message"))
    with pytest.raises(FileExistsError):
        create_key(tmp_path / "key.pem")
    (tmp_path / "key.pub.pem").unlink()
    with pytest.raises(FileExistsError):
        create_key(tmp_path / "key.pem")
    assert not (tmp_path / "key.pub.pem").exists()


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    """An encrypted key is read with its passphrase, and with no other."""
    public = create_key(tmp_path / "key.pem", b"secret")
    assert read_signer(tmp_path / "key.pem", lambda: b"secret").public_key.key_id == public.key_id
    with pytest.raises(InvalidSpec, match="passphrase does not open"):
        read_signer(tmp_path / "key.pem", lambda: b"Secret")
    with pytest.raises(InvalidSpec, match="passphrase does not open"):
        read_signer(tmp_path / "key.pem", bytes)
    with pytest.raises(InvalidSpec, match="is encrypted, and no passphrase was given"):
        read_signer(tmp_path / "key.pem")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A private key that its group or everybody may read is refused, with the command that mends it."""
    create_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(InvalidSpec, match="chmod 600"):
        read_signer(tmp_path / "key.pem", _no_passphrase)


def test_other_keys_are_refused(tmp_path: Path) -> None:
    """Keys of another kind, public keys in place of private ones and the reverse, and other files are refused."""
    key, path = ec.generate_private_key(ec.SECP256R1()), tmp_path / "k.pem"
    create_key(tmp_path / "own.pem")
    public = (tmp_path / "own.pub.pem").read_bytes()
    private = (tmp_path / "own.pem").read_bytes()
    wrong = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (wrong, public, b"", b"\xff" * 100, private[:60]):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(InvalidSpec, match="no Ed25519 private key"):
            read_signer(path, _no_passphrase)
    wrong = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (wrong, private, b"", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(InvalidSpec, match="no Ed25519 public key"):
            read_public_key(path)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography or pyarrow the error names the extra; a pack without a signature needs no cryptography."""
    write_sample(tmp_path / "out")
    signer = make_signer(tmp_path)
    write_pack(tmp_path / "signed.zip", tmp_path / "out", signer=signer)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    write_pack(tmp_path / "pack.zip", tmp_path / "out")
    for act in (
        lambda: create_key(tmp_path / "other.pem"),
        lambda: read_public_key(tmp_path / "key.pub.pem"),
        lambda: read_signer(tmp_path / "key.pem", _no_passphrase),
        lambda: verify_pack(tmp_path / "signed.zip"),
    ):
        with pytest.raises(InvalidSpec, match=r"faal\[evidence\]"):
            act()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidSpec, match=r"faal\[evidence\]"):
        verify_pack(tmp_path / "pack.zip")


def test_openssl_writes_keys_that_are_read(tmp_path: Path) -> None:
    """A key of `openssl genpkey` signs, and its id is the SHA-256 of the public key as DER."""
    import hashlib
    import shutil

    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"], cwd=tmp_path, check=True)
    (tmp_path / "key.pem").chmod(0o600)
    command = ["openssl", "pkey", "-in", "key.pem", "-pubout", "-outform", "DER"]
    der = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    assert read_signer(tmp_path / "key.pem", _no_passphrase).public_key.key_id == hashlib.sha256(der).hexdigest()
