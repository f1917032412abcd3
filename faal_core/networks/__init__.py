"""Networks by name: `build` turns a spec into a classifier with random weights."""

from pkgutil import resolve_name

import torch
from torch import nn

from faal_core import catalog
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec
from faal_core.specs import ClassifierSpec

MAX_PARAMETERS = 1_000_000_000


def build(spec: ClassifierSpec) -> Classifier:
    """A classifier with random weights, on the CPU and in eval mode. Raises: as `outline`."""
    outline(spec)
    return Classifier(_backbone(spec), spec).eval()


def outline(spec: ClassifierSpec) -> nn.Module:
    """Return the network on the meta device: its names and shapes, in no memory and little time.

    Raises: InvalidSpec where it would have more than `MAX_PARAMETERS`.
    """
    with torch.device("meta"):
        network = _backbone(spec)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters > MAX_PARAMETERS:
        raise InvalidSpec(
            f"{spec.architecture} would have {parameters:,} parameters; at most {MAX_PARAMETERS:,} are built"
        )
    return network


def arguments(spec: ClassifierSpec) -> dict[str, int]:
    """The architecture's arguments by name, absent ones at their defaults."""
    bounds = catalog.architecture(spec.architecture).arguments
    return {name: spec.arguments.get(name, bound.default) for name, bound in bounds.items()}


def _backbone(spec: ClassifierSpec) -> nn.Module:
    """What the catalog's builder makes of the spec."""
    entry = catalog.architecture(spec.architecture)
    variant = {} if entry.variant is None else {"variant": entry.variant}
    builder = resolve_name(entry.builder)
    backbone: nn.Module = builder(num_classes=spec.num_classes, channels=spec.channels, **arguments(spec), **variant)
    return backbone
