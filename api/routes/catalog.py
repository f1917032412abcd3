"""The catalog: architectures, data sets, attack presets and methods."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.access.authentication import ReaderDep
from api.schemas.methods import methods
from faal_client.resources.catalog import Architecture, Bounds, Catalog, NamedDataset, Preset
from faal_core import catalog
from faal_core.specs import AuditSettings, TrainingSpec
from jobs.named_datasets import is_available

router = APIRouter(tags=["catalog"])

_SEARCH = "list only architectures whose names contain this text, such as `timm/vit`"


@router.get("/catalog", summary="Get the catalog and the defaults")
def get_catalog(service: ReaderDep, search: Annotated[str, Query(max_length=100, description=_SEARCH)] = "") -> Catalog:
    """List the architectures, data sets, attack presets and methods that requests can name, and the defaults.

    /openapi.json has the JSON schemas of all fields.
    """
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
            if search.casefold() in entry.name.casefold()
        ],
        datasets=[
            NamedDataset(
                name=entry.name,
                title=entry.title,
                source=entry.source,
                num_classes=entry.num_classes or None,
                shape=entry.shape if entry.num_classes else None,
                available=is_available(service.settings, entry.name),
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
