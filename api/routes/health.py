"""Whether the process runs, and whether it can serve."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.dependencies import Service, ServiceDep
from api.errors import FieldError, ServiceNotReady
from jobs.database import SchemaTooNew, up_to_date
from jobs.errors import StoreUnavailable

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """All is well."""

    status: Literal["ok", "ready"]


@router.get("/healthz", summary="Whether the process runs")
def get_health() -> Health:
    """Always well, if anything answers."""
    return Health(status="ok")


@router.get("/readyz", summary="Whether the service can serve")
def get_readiness(service: ServiceDep) -> Health:
    """Ready: the database has this version's schema, files can be stored, the broker answers. If not, 503 says what."""
    faults = [FieldError(parameter=part, detail=fault) for part, check in _CHECKS.items() if (fault := check(service))]
    if faults:
        raise ServiceNotReady("; ".join(f"{fault.parameter}: {fault.detail}" for fault in faults), *faults)
    return Health(status="ready")


def _database(service: Service) -> str | None:
    try:
        if up_to_date(service.settings.database_url):
            return None
    except SchemaTooNew as newer:
        return str(newer)
    except Exception:  # noqa: BLE001 - whatever the driver raises, the database does not answer
        return "it does not answer"
    return "its schema is not this version's; run the migrations"


def _storage(service: Service) -> str | None:
    try:
        service.storage.put([b"ready"], media_type="text/plain")
    except StoreUnavailable as away:
        return away.message
    except Exception:  # noqa: BLE001 - whatever the file system raises, nothing can be stored
        return "it cannot be written to"
    return None


def _broker(service: Service) -> str | None:
    return None if service.queue.reachable() else "it does not answer; jobs wait until a worker's sweep finds them"


_CHECKS: dict[str, Callable[[Service], str | None]] = {"database": _database, "storage": _storage, "broker": _broker}
