"""Health checks: whether the process runs, and whether it can serve requests."""

from fastapi import APIRouter

from api.problems.errors import ServiceNotReady
from api.schemas.health import Health, Readiness
from api.serving.dependencies import ServiceDep
from faal_client.resources.problems import FieldError

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Check that the process runs")
async def get_health() -> Health:
    """Return `ok` if the process runs. Needs no thread, database, storage or broker."""
    return Health()


@router.get("/readyz", summary="Check that the service can serve requests", response_model_exclude_none=True)
async def get_readiness(service: ServiceDep) -> Readiness:
    """Return `ready` if the database has this version's schema, files can be stored and read, and the broker accepts messages.

    The service tries each part. If one fails, the answer is 503, within 5 seconds, and names the parts that do not work.
    """
    faults = await service.readiness.faults()
    if faults:
        message = "; ".join(f"{part}: {fault}" for part, fault in faults.items())
        raise ServiceNotReady(message, *(FieldError(parameter=part, detail=fault) for part, fault in faults.items()))
    return Readiness(lost_files=service.readiness.lost_files or None)
