"""The bodies of answers about the service itself."""

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The answer of a process that runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The answer of a service that can serve requests."""

    status: Literal["ready"] = "ready"
    lost_files: int | None = Field(
        None,
        description="number of stored files that were missing or damaged at the last read; `faal-service check` lists them",
    )
