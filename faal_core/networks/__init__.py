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
    """Return a classifier with random weights, on the CPU and in eval mode. Raises: as `outline`."""
    outline(spec)
    return Classifier(_build_backbone(spec), spec).eval()


def outline(spec: ClassifierSpec) -> nn.Module:
    """Return the network on the meta device: names and shapes, without memory for values.

    Raises: InvalidSpec where it would have more than `MAX_PARAMETERS`, or needs code that is not in the catalog.
    """
    with torch.device("meta"):
        network = _build_backbone(spec)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters > MAX_PARAMETERS:
        raise InvalidSpec(
            f"{spec.architecture} would have {parameters:,} parameters; at most {MAX_PARAMETERS:,} are supported"
        )
    return network


def resolve_arguments(spec: ClassifierSpec) -> dict[str, int]:
    """Return the architecture's arguments by name, with defaults for absent ones."""
    if spec.needs_own_code:
        return dict(spec.arguments)
    bounds = catalog.architecture(spec.architecture).arguments
    return {name: spec.arguments.get(name, bound.default) for name, bound in bounds.items()}


def _build_backbone(spec: ClassifierSpec) -> nn.Module:
    """Return the network that the catalog's builder makes from the spec. Raises: InvalidSpec."""
    if spec.needs_own_code:
        raise InvalidSpec(
            f"{spec.architecture} is code outside the catalog, so the network cannot be built from its name.",
            remedy="network",
        )
    entry = catalog.architecture(spec.architecture)
    variant = {} if entry.variant is None else {"variant": entry.variant}
    builder = resolve_name(entry.builder)
    backbone: nn.Module = builder(
        num_classes=spec.num_classes, channels=spec.channels, **resolve_arguments(spec), **variant
    )
    return backbone
