"""The methods of the library as the catalog lists them."""

from faal_client.resources.catalog import Method
from faal_core.specs import METHODS


def methods() -> list[Method]:
    """Return all methods, the default first."""
    defaults = [method() for method in METHODS]
    return [
        Method(
            type=default.type,
            title=(default.__doc__ or "").splitlines()[0].rstrip("."),
            defaults=default.model_dump(mode="json"),
        )
        for default in defaults
    ]
