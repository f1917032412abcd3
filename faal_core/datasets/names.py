"""The rule for names of classes, groups and columns."""

from collections.abc import Iterable

from faal_core.errors import DatasetInvalid
from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name


def require_names(subject: str, names: Iterable[str]) -> None:
    """Check that each name has 1 to `MAX_NAME_LENGTH` characters and no control character. Raises: DatasetInvalid."""
    for name in names:
        if not is_name(name):
            raise DatasetInvalid(
                f"{subject} is called {name[:MAX_NAME_LENGTH]!r}; names have 1 to {MAX_NAME_LENGTH} characters, "
                "none of them a control character"
            )
