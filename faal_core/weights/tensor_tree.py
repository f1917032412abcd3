"""The tensors of a loaded file, by the mapping or list that each is in."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from torch import Tensor

from faal_core.errors import WeightsUnreadable
from faal_core.weights.safetensors_file import MAX_NAME

ADVICE = "save the state dict alone: torch.save(model.state_dict(), path)."
MAX_DEPTH = 8  # of containers in containers; checkpoints of large training frameworks need six
MAX_CONTAINERS = 20_000  # an optimiser has one for each parameter
MAX_ENTRIES = 200_000

TensorTree = dict[str, dict[str, Tensor]]
"""The tensors of a file: the path of each mapping, with dots between its keys and "" for the whole → its tensors by name.

A list is a mapping of its numbers, but for pairs of a name and a tensor in it, which are entries of that name.
"""
_Container = Mapping[object, object] | list[object] | tuple[object, ...]


def tensor_tree(loaded: object) -> TensorTree:
    """Return the tensors of `loaded` and of the containers in it; containers without any are passed over.

    Raises: WeightsUnreadable where there are no tensors, too many, or some too deep to be read.
    """
    if not isinstance(loaded, Mapping):
        raise WeightsUnreadable(f"The checkpoint holds a {type(loaded).__name__}, not a state dict; {ADVICE}")
    around_tensors = _around_tensors(loaded)
    tree: TensorTree = {}
    waiting: list[tuple[str, _Container, frozenset[int]]] = [("", loaded, frozenset())]
    entries = 0
    for path, container, above in waiting:  # grows while it is gone through
        entries += len(container)
        if len(waiting) > MAX_CONTAINERS or entries > MAX_ENTRIES:
            raise WeightsUnreadable(
                f"The checkpoint holds more than {MAX_CONTAINERS:,} mappings or {MAX_ENTRIES:,} entries; {ADVICE}"
            )
        if len(above) > MAX_DEPTH:
            raise WeightsUnreadable(
                f"The checkpoint holds tensors in {path[:200]}, more than {MAX_DEPTH} mappings or lists deep; {ADVICE}"
            )
        inside = above | {id(container)}
        for key, value in _entries(container):
            if isinstance(value, Tensor):
                tensors, name = tree.setdefault(path, {}), _name(key)
                if name in tensors:
                    raise WeightsUnreadable(f"The checkpoint holds {path}.{name} twice; {ADVICE}")
                tensors[name] = value.detach()
            elif isinstance(value, Mapping | list | tuple) and id(value) in around_tensors - inside:
                waiting.append((f"{path}.{_name(key)}".lstrip("."), value, inside))
    if tree.keys() <= {""} and all(name.isdecimal() for name in tree.get("", {})):
        raise WeightsUnreadable(f"The checkpoint holds no tensors by name, so it is not a state dict; {ADVICE}")
    return tree


def _around_tensors(loaded: _Container) -> set[int]:
    """The identities of the containers with a tensor in them, at any depth."""
    parents, around = defaultdict[int, list[int]](list), list[int]()
    waiting, seen = [loaded], {id(loaded)}
    while waiting:
        container = waiting.pop()
        values = container.values() if isinstance(container, Mapping) else container
        if any(isinstance(value, Tensor) for value in values):
            around.append(id(container))
        for value in values:
            if isinstance(value, Mapping | list | tuple):
                parents[id(value)].append(id(container))
                if id(value) not in seen:
                    seen.add(id(value))
                    waiting.append(value)
    found = set(around)
    while around:
        above = set(parents[around.pop()]) - found
        found |= above
        around += above
    return found


def _entries(container: _Container) -> Iterator[tuple[object, object]]:
    """The entries by key or number, or by the names in pairs of a name and a tensor."""
    if isinstance(container, Mapping):
        yield from container.items()
        return
    names = set[str]()
    for number, value in enumerate(container):
        match value:
            case (str(name), Tensor() as tensor) if name not in names:
                names.add(name)
                yield name, tensor
            case _:
                yield number, value


def _name(key: object) -> str:
    """The key as text. Raises: WeightsUnreadable where it is too long."""
    name = str(key)
    if len(name) > MAX_NAME:
        raise WeightsUnreadable(f"The key {name[:50]!r}… has {len(name):,} characters; at most {MAX_NAME:,} are read.")
    return name
