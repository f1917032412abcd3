"""The key that signs evidence packs is read at the start, or the service does not start."""

from pathlib import Path

import pytest

from api.serving.signing import read_signer
from faal_core.evidence import create_key
from jobs.errors import CannotStart
from jobs.settings import Settings


def test_a_key_signs_in_the_stated_name(tmp_path: Path) -> None:
    """The signer has the key and the name of the settings; without a key there is no signer."""
    public_key = create_key(tmp_path / "key.pem")
    signer = read_signer(Settings(signing_key=tmp_path / "key.pem", signer="laboratory"))
    assert signer is not None
    assert (signer.public_key.key_id, signer.name) == (public_key.key_id, "laboratory")
    assert read_signer(Settings()) is None


def test_a_key_that_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    """A missing, encrypted or wrong key, and a name without a key, are faults whose message names the variable."""
    create_key(tmp_path / "encrypted.pem", b"passphrase")
    (tmp_path / "text.pem").write_text("no key")
    (tmp_path / "text.pem").chmod(0o600)
    for settings, phrase in (
        (Settings(signing_key=tmp_path / "encrypted.pem"), "is encrypted"),
        (Settings(signing_key=tmp_path / "text.pem"), "holds no Ed25519 private key"),
        (Settings(signing_key=tmp_path / "missing.pem"), "cannot be read: No such file"),
        (Settings(signing_key=tmp_path), "cannot be read: Is a directory"),
        (Settings(signer="laboratory"), "Set FAAL_SIGNING_KEY"),
    ):
        with pytest.raises(CannotStart, match=phrase) as fault:
            read_signer(settings)
        assert "FAAL_SIGN" in str(fault.value)
