"""Read the key that signs the evidence packs of this service."""

from typing import TYPE_CHECKING, NoReturn

from faal_core.errors import InvalidSpec
from jobs.errors import CannotStart
from jobs.settings import Settings

if TYPE_CHECKING:
    from faal_core.evidence.keys import Signer


def read_signer(settings: Settings) -> "Signer | None":
    """Return the signer with the key of the settings; None where they name none.

    Raises: CannotStart where the key cannot be read, other users may read it, or a signer is named without a key.
    """
    path = settings.signing_key
    if path is None:
        if settings.signer is not None:
            raise CannotStart("FAAL_SIGNER names a signer, but there is no key. Set FAAL_SIGNING_KEY too.")
        return None
    from faal_core import evidence  # imported here, since cryptography takes a fraction of a second

    def refuse() -> NoReturn:
        raise InvalidSpec(f"The private key {path} is encrypted. Name a key without a passphrase.")

    try:
        return evidence.read_signer(path, refuse, settings.signer)
    except InvalidSpec as error:
        raise CannotStart(f"FAAL_SIGNING_KEY: {error.message}") from None
    except OSError as error:
        raise CannotStart(f"FAAL_SIGNING_KEY: The private key {path} cannot be read: {error.strerror}.") from None
