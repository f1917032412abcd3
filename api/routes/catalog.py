"""What is offered: architectures, data sets, attack presets and methods."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access.authentication import ReaderDep
from api.schemas.resources import Method, methods
from faal_core import catalog
from faal_core.specs import AuditSettings, TrainingSpec
from jobs.named_datasets import available

router = APIRouter(tags=["catalog"])


class Bounds(BaseModel):
    """A whole number an architecture takes."""

    low: int
    high: int
    default: int


class Architecture(BaseModel):
    """A network that can be rebuilt from its name and weights."""

    name: str
    title: str
    source: str
    arguments: dict[str, Bounds]


class NamedDataset(BaseModel):
    """A data set that can be used by its name."""

    name: str
    title: str
    source: str
    num_classes: int | None = Field(description="absent where only loading tells")
    shape: tuple[int, int, int] | None = Field(description="channels, height, width; absent where only loading tells")
    available: bool = Field(description="whether jobs can use it: its files are here, as far as their names tell")


class Preset(BaseModel):
    """A named sequence of attacks."""

    name: str
    title: str
    attacks: list[dict[str, Any]]


class Catalog(BaseModel):
    """All that can be asked for by name, and what is taken where nothing is said."""

    architectures: list[Architecture]
    datasets: list[NamedDataset]
    presets: list[Preset]
    methods: list[Method]
    training_defaults: dict[str, Any]
    audit_defaults: dict[str, Any]


@router.get("/catalog", summary="What is offered by name, and the defaults")
def get_catalog(service: ReaderDep) -> Catalog:
    """Architectures, data sets, attack presets and methods; JSON schemas of all fields stand in /openapi.json."""
    return Catalog(
        architectures=[
            Architecture(
                name=entry.name,
                title=entry.title,
                source=entry.source,
                arguments={
                    name: Bounds(low=bounds.low, high=bounds.high, default=bounds.default)
                    for name, bounds in entry.arguments.items()
                },
            )
            for entry in catalog.architectures().values()
        ],
        datasets=[
            NamedDataset(
                name=entry.name,
                title=entry.title,
                source=entry.source,
                num_classes=entry.num_classes or None,
                shape=entry.shape if entry.num_classes else None,
                available=available(service.settings, entry.name),
            )
            for entry in catalog.datasets().values()
        ],
        presets=[
            Preset(name=entry.name, title=entry.title, attacks=list(entry.attacks))
            for entry in catalog.PRESETS.values()
        ],
        methods=methods(),
        training_defaults=TrainingSpec().model_dump(mode="json"),
        audit_defaults=AuditSettings().model_dump(mode="json"),
    )
