"""Define the entries of the catalog: an architecture, a data set and a sequence of attacks."""

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Augmentation = Literal["none", "crop", "flip", "crop-flip"]
"""Random changes of training images: crops after padding, mirroring left to right, both, or none."""


@dataclass(frozen=True, slots=True)
class ArgumentRange:
    """Bounds a whole number that an architecture's builder takes."""

    low: int
    high: int
    default: int


@dataclass(frozen=True, slots=True)
class ArchitectureEntry:
    """Describes a network that can be built.

    Args:
        builder: "module:function", called with num_classes, channels and the arguments; the function alone for a `file`.
        variant: passed to the builder too, where one function builds several networks.
        file: the Python file of a site's own network, which only building it executes.
    """

    name: str
    title: str
    source: str
    builder: str
    arguments: MappingProxyType[str, ArgumentRange] = field(default_factory=lambda: MappingProxyType({}))
    variant: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """Describes a data set that can be loaded.

    Args:
        builder: "module:function", called with the part, the root folder and whether to download.
        num_classes, shape, images: 0 where they are not known; `images` counts the training and the test images.
        augmentation: changes that preserve the labels and look like the data set's images. A mirrored digit or traffic
            sign is another one, or none; the shoes of Fashion-MNIST are centred and face the same way. None leaves the
            choice to the builder's `LabelledImages`.
    """

    name: str
    title: str
    source: str
    builder: str
    num_classes: int
    shape: tuple[int, int, int]
    images: tuple[int, int] = (0, 0)  # training and test images
    augmentation: Augmentation | None = None


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """Names a sequence of attacks; `attacks` holds the fields of their specs."""

    name: str
    title: str
    attacks: tuple[dict[str, Any], ...]
