"""Hide the secrets that a request's address can hold, wherever the address is logged or repeated.

The address of a shared report holds the token of its link. A client may also send an API key in an address by mistake.
"""

import re

SHARED = "/shared/"
"""The path of shared reports; the token of a link follows."""
_SECRETS = re.compile(rf"(?<={SHARED})[^?]+|faal_[\w-]{{20,}}", re.IGNORECASE)


def hide_secrets(address: str) -> str:
    """Return a path, with or without a query, in which each token of a link and each API key is replaced by "…"."""
    return _SECRETS.sub("…", address)
