"""Networks by name: `build` turns a spec into a classifier with random weights."""

from pkgutil import resolve_name

import torch
from torch import nn

from faal_core import catalog
from faal_core.catalog import ArchitectureEntry
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec
from faal_core.networks.python_file import import_file
from faal_core.specs import ClassifierSpec

MAX_PARAMETERS = 1_000_000_000


def build(spec: ClassifierSpec) -> Classifier:
    """Return a classifier with random weights, on the CPU and in eval mode. Raises: as `outline`."""
    outline(spec)
    return Classifier(_build_backbone(spec), spec).eval()


def outline(spec: ClassifierSpec) -> nn.Module:
    """Return the network on the meta device: names and shapes, without memory for values.

    Raises: InvalidSpec where it would have more than `MAX_PARAMETERS`, needs code that is not in the catalog, or its library or
        file cannot build it.
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
            f"{spec.architecture} is code outside the catalog, so the network cannot be built from its name. In "
            "Python, pass the network itself: read_classifier(…, network=network).",
            remedy="network",
        )
    entry = catalog.architecture(spec.architecture)
    options: dict[str, object] = {"num_classes": spec.num_classes, "channels": spec.channels, **resolve_arguments(spec)}
    if entry.variant is not None:
        options["variant"] = entry.variant
    if entry.file is not None:
        return _build_site_network(entry, options)
    with torch.device("cpu"):  # tensors that a module keeps must not end on the meta device
        builder = resolve_name(entry.builder)
    backbone: nn.Module = builder(**options)
    return backbone


def _build_site_network(entry: ArchitectureEntry, options: dict[str, object]) -> nn.Module:
    """Return the network of a site's own file. Raises: InvalidSpec where the file or its function fails."""
    assert entry.file is not None, "only such entries are built here"  # noqa: S101
    try:
        with torch.device("cpu"):
            builder = getattr(import_file(entry.file), entry.builder)
        network = builder(**options)
    except Exception as error:  # noqa: BLE001 - the site's code may raise anything
        reason = f"{type(error).__name__}: {error}"
    else:
        if isinstance(network, nn.Module):
            return network
        reason = f"{entry.builder} returns a {type(network).__name__} instead of a torch.nn.Module"
    raise InvalidSpec(f"{entry.name} cannot be built from {entry.file.name}. Tell the administrator. {reason}")
