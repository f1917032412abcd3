"""The catalog as JSON: all names that requests can use, and the defaults."""

from typing import Any

from pydantic import BaseModel, Field


class Method(BaseModel):
    """A fine-tuning method."""

    type: str
    title: str
    defaults: dict[str, Any]


class Bounds(BaseModel):
    """The range and the default of an integer argument of an architecture."""

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
    num_classes: int | None = Field(
        description="number of classes; null if it is unknown until a job loads the data set"
    )
    shape: tuple[int, int, int] | None = Field(
        description="channels, height and width of an image; null if unknown until a job loads the data set"
    )
    available: bool = Field(description="whether jobs can use it: files with the expected names exist")


class Preset(BaseModel):
    """A named sequence of attacks."""

    name: str
    title: str
    attacks: list[dict[str, Any]]


class Catalog(BaseModel):
    """All names that requests can use, and the defaults."""

    architectures: list[Architecture]
    datasets: list[NamedDataset]
    presets: list[Preset]
    methods: list[Method]
    training_defaults: dict[str, Any]
    audit_defaults: dict[str, Any]
