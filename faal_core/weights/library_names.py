"""Key names that a network's own library renames while it loads its published files."""

import sys
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from faal_core.errors.memory_exhaustion import require_memory

_OLDEST_VERSION = {"version": 1}  # of a module's key names; files that were converted no longer tell theirs


def rename_to_current(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under the names that the network's own library gives them.

    torchvision renames DenseNet's and ViT's published names, timm the names of the papers' code. This calls their functions.
    A renamed tensor keeps its values. A value that the library would recompute, such as positions for another image size, stays
    as it was in the file.

    Args:
        network: of the library, on any device.
    """
    renamed = rename_published(tensors, network)
    for rename in (_rename_by_filter, _rename_by_modules):
        renamed = _keep_values(renamed, rename(renamed, network))
    return renamed


def rename_published(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors, renamed as the network's torchvision module does before it loads a file; any prefix is kept."""
    published = _PublishedWeights(dict(tensors))
    if load := _find_function(network, "torchvision.", "_load_state_dict"):
        load(model=published, weights=published, progress=False)
    return published.state


class _PublishedWeights:
    """Weights and network in one, for a function that reads a state dict from the weights and loads it into the network."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def get_state_dict(self, **_: object) -> dict[str, Tensor]:
        """Return the published names."""
        return self.state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Store the current names."""
        self.state = state


def _rename_by_filter(tensors: dict[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Rename the tensors as the network's timm module does."""
    rename = _find_function(network, "timm.", "checkpoint_filter_fn")
    if rename is None or tensors.keys() == network.state_dict().keys():
        return tensors
    try:
        renamed: Mapping[str, Tensor] = rename(dict(tensors), network)
    except Exception as error:  # noqa: BLE001 - it takes the names of one code for granted; the file's own are judged then
        require_memory(error, "to rename the weights")
        return tensors
    return renamed


def _rename_by_modules(tensors: dict[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Rename the tensors as modules outside torch do while they load their part."""
    state = dict(tensors)
    for path, module in network.named_modules():
        kind = next(kind for kind in type(module).__mro__ if "_load_from_state_dict" in vars(kind))
        if not kind.__module__.startswith("torch."):
            prefix = f"{path}." if path else ""
            load = module._load_from_state_dict  # noqa: SLF001 - the place that torch gives modules for this
            load(state, prefix, dict(_OLDEST_VERSION), False, [], [], [])
    return state


def _find_function(network: nn.Module, library: str, name: str) -> Callable[..., Mapping[str, Tensor]] | None:
    """Return the function of that name in the module of the network's class, if the class is the library's."""
    module = type(network).__module__
    function: Callable[..., Mapping[str, Tensor]] | None = getattr(sys.modules[module], name, None)
    return function if module.startswith(library) else None


def _keep_values(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `after`, with the tensors of `before` in place of recomputed ones."""
    known = {(tensor.data_ptr(), tensor.numel()) for tensor in before.values()}
    renamed = {name: tensor for name, tensor in after.items() if (tensor.data_ptr(), tensor.numel()) in known}
    return renamed | {name: before[name] for name in after.keys() - renamed.keys() if name in before}
