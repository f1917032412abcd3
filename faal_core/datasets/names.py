"""What classes, groups and their columns may be called."""

import unicodedata
from collections.abc import Iterable

from faal_core.errors import DatasetInvalid

MAX_NAME_LENGTH = 100
_UNNAMED = {"Cc", "Cs"}  # Unicode's control characters and halves of characters


def require_names(what: str, names: Iterable[str]) -> None:
    """Returns if each is 1 to `MAX_NAME_LENGTH` characters without control characters. Raises: DatasetInvalid."""
    for name in names:
        if not 0 < len(name) <= MAX_NAME_LENGTH or any(unicodedata.category(sign) in _UNNAMED for sign in name):
            raise DatasetInvalid(
                f"{what} is called {name[:MAX_NAME_LENGTH]!r}; names have 1 to {MAX_NAME_LENGTH} characters, "
                "none of them a control character"
            )
