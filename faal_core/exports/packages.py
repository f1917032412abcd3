"""Import the packages that exports need."""

from importlib import import_module
from typing import Any

from faal_core.errors import InvalidSpec


def import_package(name: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Return the module of that name. Raises: InvalidSpec, which names the extra, if its package is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as missing:
        package = (missing.name or name).partition(".")[0]
        raise InvalidSpec(
            f"The export needs {package}, which is not installed. Run pip install 'faal[{extra}]'."
        ) from None
