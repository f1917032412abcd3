"""The sets of weights in a file: a network's names under one mapping and one prefix. An ambiguous choice is never guessed.

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
"""The key of a set that has neither a mapping of its own nor a prefix."""
MAX_QUOTED = 20  # keys in a message
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch.compile, FSDP, checkpointing


@dataclass(frozen=True, slots=True)
class WeightSet:
    """Tensors of one mapping whose names, without `prefix`, are a network's.

    Args:
        path: the path of the mapping in the file, "" for the file itself.
        prefix: with the dot at its end, or empty.
        tensors: all tensors of the mapping, including those beside the set.
        is_selected: whether the caller named its key.
    """

    path: str
    prefix: str
    tensors: Mapping[str, Tensor]
    is_selected: bool = False

    @property
    def key(self) -> str:
        """Return the key that selects this set."""
        return f"{self.path}.{self.prefix}".strip(".") or ROOT


def select(tree: TensorTree, network: nn.Module, key: str | None = None) -> WeightSet:
    """Return the set of weights in a file that fits a network: the only one, or the one with that key.

    Args:
        tree: the file's tensors, by mapping and by name.
        network: for its names and shapes, on any device.
        key: of the set, or of the mapping around it.

    Raises: WeightsAmbiguous where there are several sets and no key, or no set has that key.
    """
    own, orders = network.state_dict(), _list_orders(network)
    tree = {path: _name_by_position(tensors, own, orders) for path, tensors in tree.items()}
    sets = _find_sets(tree, own)
    if key is not None:
        return _select_by_key(tree, own, sets, key)
    if len(sets) > 1:
        raise WeightsAmbiguous(
            f"The file holds {len(sets)} sets of weights for this network: {_quote_keys(sets)}. "
            "Select one by its key: weights_key (--weights-key)."
        )
    return sets[0]


def _list_orders(network: nn.Module) -> list[dict[str, torch.Size]]:
    """Return the names and shapes of the network's tensors in each order in which code stores them without names."""
    state, parameters = network.state_dict(), dict(network.named_parameters())
    buffers = {name: tensor for name, tensor in state.items() if name not in parameters}
    orders = [parameters, state, parameters | buffers]
    orders += [{name: t for name, t in order.items() if t.is_floating_point()} for order in orders]
    return [{name: tensor.shape for name, tensor in order.items()} for order in orders]


def _name_by_position(
    tensors: dict[str, Tensor], own: Mapping[str, Tensor], orders: list[dict[str, torch.Size]]
) -> dict[str, Tensor]:
    """Return the tensors by the network's names, where none has such a name and all have the shapes of one of the orders.

    Code that iterates over `parameters()` or `state_dict().values()` stores averages in lists, under numbers or under names
    of its own.
    """
    shapes = [tensor.shape for tensor in tensors.values()]
    order = next((order for order in orders if [*order.values()] == shapes), None)
    if order is None or (len(shapes) == 1 and "0" not in tensors):  # one parameter in an optimiser's mapping
        return tensors
    depth = _count_parts(own)
    if any(True for name in tensors for _ in _iterate_prefixes(name, own, depth)):
        return tensors
    return dict(zip(order, tensors.values(), strict=True))


def _select_by_key(tree: TensorTree, network: Mapping[str, Tensor], sets: list[WeightSet], key: str) -> WeightSet:
    """Return the set with exactly that key, else the only one below it or at its end. Raises: WeightsAmbiguous."""
    key = key.strip().strip(".") or ROOT
    matches = [one for one in sets if one.key == key]
    matches = matches or [one for one in sets if one.key.startswith(f"{key}.")]
    matches = matches or [one for one in sets if one.key.endswith(f".{key}")]
    if not matches:  # no set looks like this network's weights; the strict check later explains why
        inside = {path: tensors for path, tensors in tree.items() if f"{path}.".startswith(f"{key}.")}
        matches = _find_sets(inside, network) if inside else []
    if len(matches) != 1:
        raise WeightsAmbiguous(
            f"The file holds {len(matches) or 'no'} sets of weights for this network at the key {key!r}; "
            f"its sets are: {_quote_keys(sets)}. Select one of these by weights_key (--weights-key)."
        )
    (one,) = matches
    others = tuple(other.prefix for other in sets if other.path == one.path and not one.prefix.startswith(other.prefix))
    tensors = {name: tensor for name, tensor in one.tensors.items() if not name.startswith(others)}
    return WeightSet(one.path, one.prefix, tensors, is_selected=True)


def _quote_keys(sets: list[WeightSet]) -> str:
    """Return the first few keys for a message."""
    more = f", … {len(sets) - MAX_QUOTED} more" if len(sets) > MAX_QUOTED else ""
    return ", ".join(one.key[:200] for one in sets[:MAX_QUOTED]) + more


def _find_sets(tree: TensorTree, network: Mapping[str, Tensor]) -> list[WeightSet]:
    """Return every set that may be the network's, the best first; there is always at least one.

    Another set counts where it has half as many tensors of the network's names and shapes as the best one. So an average
    without batch-norm's statistics counts, too.
    """
    depth = _count_parts(network)
    candidates: list[tuple[int, int, int, WeightSet, set[str]]] = []
    for path, tensors in tree.items():
        names, fitting = Counter[str](), defaultdict[str, set[str]](set)
        for name, tensor in tensors.items():
            for prefix in _iterate_prefixes(name, network, depth):
                own = network[name.removeprefix(prefix)]
                names[prefix] += 1
                if own.shape == tensor.shape and own.is_floating_point():
                    fitting[prefix].add(name)
        for prefix, count in names.items() or [(_find_common_prefix(tensors), 0)]:
            candidate = WeightSet(path, prefix, tensors)
            candidates.append((len(fitting[prefix]), count, len(tensors), candidate, fitting[prefix]))
    candidates.sort(key=lambda entry: entry[:3], reverse=True)
    best_count, _, _, best, best_names = candidates[0]
    sets, counted_names = [best], {best.path: best_names}
    if 4 * best_count < len(network):
        return sets  # weights of another network; the strict check reports it
    for _, _, _, candidate, names_fitting in candidates[1:]:
        rest = names_fitting - counted_names.get(candidate.path, set())
        if 2 * len(rest) >= best_count:
            sets.append(candidate)
            counted_names[candidate.path] = counted_names.get(candidate.path, set()) | rest
    return sets


def _count_parts(names: Iterable[str]) -> int:
    """Return how many parts the longest name has."""
    return max((name.count(".") for name in names), default=0) + 1


def _find_common_prefix(names: Iterable[str]) -> str:
    """Return the leading parts, without the last, that all names share."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{alike[0]}." for alike in takewhile(lambda alike: len(set(alike)) == 1, parts))


def strip_wrappers(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors without the name parts of torch's wrappers, unless two names would become equal."""
    named = {".".join(part for part in name.split(".") if part not in _WRAPPERS): t for name, t in tensors.items()}
    return named if len(named) == len(tensors) else tensors


def _iterate_prefixes(name: str, own: Mapping[str, object], depth: int) -> Iterator[str]:
    """Yield each prefix of `name` whose removal leaves one of the `own` names, of at most `depth` parts; the shortest first."""
    parts = name.split(".")
    for dropped in range(max(0, len(parts) - depth), len(parts)):
        if ".".join(parts[dropped:]) in own:
            yield "".join(f"{part}." for part in parts[:dropped])
