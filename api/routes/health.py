"""Whether the process runs, and whether it can serve."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.problems.errors import FieldError, ServiceNotReady
from api.serving.dependencies import ServiceDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The service can serve."""

    status: Literal["ready"] = "ready"
    lost_files: int | None = Field(
        None,
        description="stored files that were missing or damaged when they were last read; `faal-service check` lists them",
    )


@router.get("/healthz", summary="Whether the process runs")
async def get_health() -> Health:
    """Return `ok` whenever the process can answer at all; needs no thread, database, storage or broker."""
    return Health()


@router.get("/readyz", summary="Whether the service can serve", response_model_exclude_none=True)
async def get_readiness(service: ServiceDep) -> Readiness:
    """Return `ready` if the database has this version's schema, files can be stored and read, and the broker takes messages.

    Each part is tried. Otherwise the answer is 503, after at most 5 seconds, and names the parts that do not work.
    """
    faults = await service.readiness.faults()
    if faults:
        told = "; ".join(f"{part}: {fault}" for part, fault in faults.items())
        raise ServiceNotReady(told, *(FieldError(parameter=part, detail=fault) for part, fault in faults.items()))
    return Readiness(lost_files=service.readiness.lost_files or None)
