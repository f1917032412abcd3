"""The Python client of the service.

    from faal_client import Client

    with Client("http://127.0.0.1:8000") as client:
        model = client.wait_until_ready(client.upload_model("weights.safetensors", spec={"architecture": …}))
        job = client.submit_audit(model.id, "cifar10", {"threat": {"epsilon": "8/255"}})
        report = client.report(job.id)

`AsyncClient` has the same methods for `await`. Names are imported when they are first used: the service itself uses
`faal_client.resources` and `faal_client.vocabulary`, also where httpx is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faal_client.async_client import AsyncClient
    from faal_client.client import Client
    from faal_client.errors import (
        Conflict,
        Forbidden,
        InvalidRequest,
        JobCancelled,
        JobFailed,
        NotFound,
        QuotaExceeded,
        RateLimited,
        ServiceProblem,
        Unauthorized,
        Unavailable,
        UploadRejected,
    )
    from faal_client.terms import JobTerms

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "Forbidden",
    "InvalidRequest",
    "JobCancelled",
    "JobFailed",
    "JobTerms",
    "NotFound",
    "QuotaExceeded",
    "RateLimited",
    "ServiceProblem",
    "Unauthorized",
    "Unavailable",
    "UploadRejected",
]

_HOMES = {"AsyncClient": "async_client", "Client": "client", "JobTerms": "terms"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - classes
    """Return a public name, imported from the module that defines it. Raises: ModuleNotFoundError where httpx is missing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    except ModuleNotFoundError as missing:
        message = f"faal_client needs {missing.name}, which is not installed. Run pip install 'faal[client]'."
        raise ModuleNotFoundError(message, name=missing.name) from missing
    return getattr(home, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
