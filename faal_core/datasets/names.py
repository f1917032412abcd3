"""What classes, groups and their columns may be called."""

from collections.abc import Iterable

from faal_core.errors import DatasetInvalid
from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name


def require_names(what: str, names: Iterable[str]) -> None:
    """Returns if each is 1 to `MAX_NAME_LENGTH` characters without control characters. Raises: DatasetInvalid."""
    for name in names:
        if not is_name(name):
            raise DatasetInvalid(
                f"{what} is called {name[:MAX_NAME_LENGTH]!r}; names have 1 to {MAX_NAME_LENGTH} characters, "
                "none of them a control character"
            )
