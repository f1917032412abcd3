"""The sets of weights in a file: a network's names under one mapping and one prefix. Which is meant is never guessed.

`{"state_dict": …, "state_dict_ema": …}` holds two sets in two mappings, `{"model.conv.weight": …, "ema.conv.weight": …}`
two in one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor, nn

from faal_core.errors import WeightsAmbiguous
from faal_core.weights.tensor_tree import TensorTree

ROOT = "."
"""The key of a set that is neither in a mapping of its own nor behind a prefix."""
LISTED = 20
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch.compile, FSDP, checkpointing


@dataclass(frozen=True, slots=True)
class WeightSet:
    """Tensors of a mapping whose names, behind `prefix`, are a network's.

    Args:
        path: of the mapping in the file, "" for the file itself.
        prefix: with the dot at its end, or empty.
        tensors: all of the mapping, those beside the set too.
        chosen: whether it was asked for by its key.
    """

    path: str
    prefix: str
    tensors: Mapping[str, Tensor]
    chosen: bool = False

    @property
    def key(self) -> str:
        """What it is asked for by."""
        return f"{self.path}.{self.prefix}".strip(".") or ROOT


def select(tree: TensorTree, network: nn.Module, key: str | None = None) -> WeightSet:
    """The set of weights in a file that is for a network: the only one, or the one of that key.

    Args:
        tree: the file's tensors, by mapping and by name.
        network: for its names and shapes, on any device.
        key: of the set, or of the mapping around it.

    Raises: WeightsAmbiguous where there are several and none was named, or none of that key.
    """
    own, orders = network.state_dict(), _orders(network)
    tree = {path: _by_place(tensors, own, orders) for path, tensors in tree.items()}
    sets = _sets(tree, own)
    if key is not None:
        return _of_key(tree, own, sets, key)
    if len(sets) > 1:
        raise WeightsAmbiguous(
            f"The file holds {len(sets)} sets of weights for this network: {_listed(sets)}. "
            "Choose one by its key: weights_key, or --weights-key on the command line."
        )
    return sets[0]


def _orders(network: nn.Module) -> list[dict[str, torch.Size]]:
    """The names and shapes of the network's tensors in the orders in which code keeps them without names."""
    state, parameters = network.state_dict(), dict(network.named_parameters())
    buffers = {name: tensor for name, tensor in state.items() if name not in parameters}
    orders = [parameters, state, parameters | buffers]
    orders += [{name: t for name, t in order.items() if t.is_floating_point()} for order in orders]
    return [{name: tensor.shape for name, tensor in order.items()} for order in orders]


def _by_place(
    tensors: dict[str, Tensor], own: Mapping[str, Tensor], orders: list[dict[str, torch.Size]]
) -> dict[str, Tensor]:
    """The tensors by the network's names, where none has such a name and all have the shapes of one of the orders.

    So averages are kept by code that goes by `parameters()` or `state_dict().values()`, in lists, under numbers or under
    names of its own.
    """
    shapes = [tensor.shape for tensor in tensors.values()]
    order = next((order for order in orders if [*order.values()] == shapes), None)
    if order is None or (len(shapes) == 1 and "0" not in tensors):  # an optimiser's mapping of one parameter
        return tensors
    depth = _depth(own)
    if any(True for name in tensors for _ in _prefixes(name, own, depth)):
        return tensors
    return dict(zip(order, tensors.values(), strict=True))


def _of_key(tree: TensorTree, network: Mapping[str, Tensor], sets: list[WeightSet], key: str) -> WeightSet:
    """The set of exactly that key, else the only one below it or at the end of it. Raises: WeightsAmbiguous."""
    key = key.strip().strip(".") or ROOT
    found = [one for one in sets if one.key == key]
    found = found or [one for one in sets if one.key.startswith(f"{key}.")]
    found = found or [one for one in sets if one.key.endswith(f".{key}")]
    if not found:  # nothing looks like this network's weights; the strict check later says why
        inside = {path: tensors for path, tensors in tree.items() if f"{path}.".startswith(f"{key}.")}
        found = _sets(inside, network) if inside else []
    if len(found) != 1:
        raise WeightsAmbiguous(
            f"The file holds {len(found) or 'no'} sets of weights for this network at the key {key!r}; "
            f"it holds: {_listed(sets)}. Name one of these as weights_key (--weights-key)."
        )
    (one,) = found
    others = tuple(other.prefix for other in sets if other.path == one.path and not one.prefix.startswith(other.prefix))
    tensors = {name: tensor for name, tensor in one.tensors.items() if not name.startswith(others)}
    return WeightSet(one.path, one.prefix, tensors, chosen=True)


def _listed(sets: list[WeightSet]) -> str:
    """Their keys."""
    more = f", … {len(sets) - LISTED} more" if len(sets) > LISTED else ""
    return ", ".join(one.key[:200] for one in sets[:LISTED]) + more


def _sets(tree: TensorTree, network: Mapping[str, Tensor]) -> list[WeightSet]:
    """Every set that may be the network's, the best first; never none.

    One beside the best counts where it has half as many tensors of the network's names and shapes, so that an average
    without batch-norm's statistics is seen too.
    """
    depth = _depth(network)
    candidates: list[tuple[int, int, int, WeightSet, set[str]]] = []
    for path, tensors in tree.items():
        names, fitting = Counter[str](), defaultdict[str, set[str]](set)
        for name, tensor in tensors.items():
            for prefix in _prefixes(name, network, depth):
                own = network[name.removeprefix(prefix)]
                names[prefix] += 1
                if own.shape == tensor.shape and own.is_floating_point():
                    fitting[prefix].add(name)
        for prefix, count in names.items() or [(_common_prefix(tensors), 0)]:
            found = WeightSet(path, prefix, tensors)
            candidates.append((len(fitting[prefix]), count, len(tensors), found, fitting[prefix]))
    candidates.sort(key=lambda candidate: candidate[:3], reverse=True)
    most, _, _, best, taken = candidates[0]
    sets, used = [best], {best.path: taken}
    if 4 * most < len(network):
        return sets  # for another network, which is said
    for _, _, _, candidate, names_fitting in candidates[1:]:
        rest = names_fitting - used.get(candidate.path, set())
        if 2 * len(rest) >= most:
            sets.append(candidate)
            used[candidate.path] = used.get(candidate.path, set()) | rest
    return sets


def _depth(names: Iterable[str]) -> int:
    """How many parts the longest name has."""
    return max((name.count(".") for name in names), default=0) + 1


def _common_prefix(names: Iterable[str]) -> str:
    """The parts before the last that all names begin with."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{alike[0]}." for alike in takewhile(lambda alike: len(set(alike)) == 1, parts))


def unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without the parts of names that torch's wrappers add anywhere in them, unless two names would be one."""
    named = {".".join(part for part in name.split(".") if part not in _WRAPPERS): t for name, t in tensors.items()}
    return named if len(named) == len(tensors) else tensors


def _prefixes(name: str, own: Mapping[str, object], depth: int) -> Iterator[str]:
    """What can be dropped in front of `name` to leave one of the `own` names, of at most `depth` parts; the shortest first."""
    parts = name.split(".")
    for dropped in range(max(0, len(parts) - depth), len(parts)):
        if ".".join(parts[dropped:]) in own:
            yield "".join(f"{part}." for part in parts[:dropped])
