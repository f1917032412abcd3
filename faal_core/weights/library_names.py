"""Key names that a network's own library renames while it loads its published files."""

import sys
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from faal_core.errors.memory_exhaustion import require_memory

_OLDEST_VERSION = {"version": 1}  # of a module's key names; files that were converted no longer tell theirs


def current_names(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors under the names that the network's own library gives them.

    torchvision renames DenseNet's and ViT's published names, timm those of the papers' code. That code of theirs is called.
    A renamed tensor keeps its values: what the library would compute anew, such as positions for another image size, stays
    as it was in the file and is judged so.

    Args:
        network: of the library, on any device.
    """
    named = names_as_published(tensors, network)
    for rename in (_by_filter, _by_modules):
        named = _values_kept(named, rename(named, network))
    return named


def names_as_published(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors, renamed as torchvision's module of the network does before it loads a file, behind any prefix."""
    published = _Published(dict(tensors))
    if load := _function(network, "torchvision.", "_load_state_dict"):
        load(model=published, weights=published, progress=False)
    return published.state


class _Published:
    """Weights and network in one, for a function that asks the former for a state dict and gives it to the latter."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def get_state_dict(self, **_: object) -> dict[str, Tensor]:
        """The names as published."""
        return self.state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the names as they are now."""
        self.state = state


def _by_filter(tensors: dict[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """What timm's module of the network does."""
    rename = _function(network, "timm.", "checkpoint_filter_fn")
    if rename is None or tensors.keys() == network.state_dict().keys():
        return tensors
    try:
        renamed: Mapping[str, Tensor] = rename(dict(tensors), network)
    except Exception as error:  # noqa: BLE001 - it takes the names of one code for granted; the file's own are judged then
        require_memory(error, "to rename the weights")
        return tensors
    return renamed


def _by_modules(tensors: dict[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """What modules that are not torch's own do while they load their part."""
    state = dict(tensors)
    for path, module in network.named_modules():
        kind = next(kind for kind in type(module).__mro__ if "_load_from_state_dict" in vars(kind))
        if not kind.__module__.startswith("torch."):
            prefix = f"{path}." if path else ""
            load = module._load_from_state_dict  # noqa: SLF001 - the place that torch gives modules for this
            load(state, prefix, dict(_OLDEST_VERSION), False, [], [], [])
    return state


def _function(network: nn.Module, library: str, name: str) -> Callable[..., Mapping[str, Tensor]] | None:
    """The function of that name beside the network's class, where the class is the library's."""
    module = type(network).__module__
    found: Callable[..., Mapping[str, Tensor]] | None = getattr(sys.modules[module], name, None)
    return found if module.startswith(library) else None


def _values_kept(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`after`, where each tensor is one of `before`; those that were computed anew as they were."""
    known = {(tensor.data_ptr(), tensor.numel()) for tensor in before.values()}
    named = {name: tensor for name, tensor in after.items() if (tensor.data_ptr(), tensor.numel()) in known}
    return named | {name: before[name] for name in after.keys() - named.keys() if name in before}
