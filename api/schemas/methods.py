"""The methods of the library as the catalog lists them."""

from faal_client.resources.catalog import Method
from faal_core.specs import METHODS


def methods() -> list[Method]:
    """Return all methods, the default first."""
    defaults = [method() for method in METHODS]
    return [
        Method(
            type=default.type,
            title=_title(default.__doc__ or ""),
            defaults=default.model_dump(mode="json"),
        )
        for default in defaults
    ]


def _title(docstring: str) -> str:
    """Return the name of a method from the docstring of its spec: "Configures …" without its verb."""
    name = docstring.splitlines()[0].removeprefix("Configures ").rstrip(".")
    return name[0].upper() + name[1:]
