"""Read and create Ed25519 keys in PEM files. Needs the extra `evidence`."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faal_core.errors import InvalidSpec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_MOST_BYTES = 16_384  # of a key file
Passphrase = Callable[[], bytes]


def require_cryptography() -> None:
    """Check that cryptography is installed. Raises: InvalidSpec."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError:
        raise InvalidSpec(
            "Signatures need cryptography, which is not installed. Run pip install 'faal[evidence]'."
        ) from None


@dataclass(frozen=True, eq=False)
class PublicKey:
    """Checks signatures.

    Args:
        pem: the key as PEM, in the form that `openssl pkey -pubout` writes.
        key_id: SHA-256 of the key as DER (SubjectPublicKeyInfo).
    """

    key: "Ed25519PublicKey"
    pem: str
    key_id: str

    @classmethod
    def from_key(cls, key: "Ed25519PublicKey") -> "PublicKey":
        """Return the key with its PEM and its id."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(key, pem, hashlib.sha256(der).hexdigest())

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether the signature is of this key and this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, eq=False)
class Signer:
    """Signs statements.

    Args:
        name: name and role as the signer states them; they are not checked.
    """

    key: "Ed25519PrivateKey"
    name: str | None = None

    @property
    def public_key(self) -> PublicKey:
        """Return the public part of the key."""
        return PublicKey.from_key(self.key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of the message, 64 bytes. The same message always has the same signature."""
        return self.key.sign(message)


def parse_public_key(pem: str) -> PublicKey:
    """Return the key. Raises: InvalidSpec if the text is no Ed25519 public key in PEM, or the extra is missing."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem[:_MOST_BYTES].encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidSpec("This is no Ed25519 public key in PEM. Write one with openssl pkey -in KEY.pem -pubout.")
    return PublicKey.from_key(key)


def read_public_key(path: str | Path) -> PublicKey:
    """Return the key in the PEM file. Raises: InvalidSpec if it holds no Ed25519 public key; OSError."""
    with Path(path).open("rb") as file:
        content = file.read(_MOST_BYTES)
    try:
        return parse_public_key(content.decode("ascii", "replace"))
    except InvalidSpec as error:
        raise InvalidSpec(f"{path}: {error.message}") from None


def read_signer(path: str | Path, passphrase: Passphrase | None = None, name: str | None = None) -> Signer:
    """Return the signer whose private key is in the PEM file.

    Args:
        passphrase: called where the key is encrypted; without it an encrypted key is refused.
        name: name and role as the signer states them.
    Raises: InvalidSpec if other users may read the file, if it holds no Ed25519 private key, if the passphrase is wrong or the
        extra is missing; OSError.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with Path(path).open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        content = file.read(_MOST_BYTES)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidSpec(f"Other users may read the private key {path} (mode {mode:o}). Run chmod 600 {path}.")
    no_key = InvalidSpec(f"{path} holds no Ed25519 private key in PEM. Create one with faal create-key.")
    try:
        key = load_pem_private_key(content, None)
    except TypeError:  # it is encrypted
        if passphrase is None:
            raise InvalidSpec(f"The private key {path} is encrypted, and no passphrase was given.") from None
        try:
            key = load_pem_private_key(content, passphrase())
        except (TypeError, ValueError):  # a TypeError for an empty passphrase
            raise InvalidSpec(f"The passphrase does not open the private key {path}.") from None
        except UnsupportedAlgorithm:
            raise no_key from None
    except (ValueError, UnsupportedAlgorithm):
        raise no_key from None
    if not isinstance(key, Ed25519PrivateKey):
        raise no_key
    return Signer(key, name)


def create_key(path: str | Path, passphrase: bytes | None = None) -> PublicKey:
    """Write a new private key, which only its owner may read, and its public key beside it; return the public key.

    The public key's file has the ending .pub.pem.
    Raises: InvalidSpec if the extra is missing; FileExistsError where one of the files exists; OSError.
    """
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    path, signer = Path(path), Signer(Ed25519PrivateKey.generate())
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    content = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    _write_new(public_key_path(path), signer.public_key.pem.encode(), 0o644)
    try:
        _write_new(path, content, 0o600)
    except OSError:
        public_key_path(path).unlink()
        raise
    return signer.public_key


def public_key_path(path: Path) -> Path:
    """Return the file of the public key that belongs to the private key in `path`."""
    return path.with_name(f"{path.name.removesuffix('.pem')}.pub.pem")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet. Raises: FileExistsError, OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
