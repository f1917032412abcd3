"""The tensors of a loaded file, by the mapping or list that contains each."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from torch import Tensor

from faal_core.errors import WeightsUnreadable
from faal_core.weights.safetensors_file import MAX_NAME

ADVICE = "save the state dict alone: torch.save(model.state_dict(), path)."
MAX_DEPTH = 8  # of nested containers; checkpoints of large training frameworks need six
MAX_CONTAINERS = 20_000  # an optimiser has one for each parameter
MAX_ENTRIES = 200_000

TensorTree = dict[str, dict[str, Tensor]]
"""The tensors of a file, by the path of their mapping and by name. A path joins keys with dots; "" is the file itself.

A list is a mapping from its indices. A pair of a name and a tensor in it is an entry with that name.
"""
_Container = Mapping[object, object] | list[object] | tuple[object, ...]


def collect_tensors(loaded: object) -> TensorTree:
    """Return the tensors of `loaded` and of the containers in it; containers without tensors are left out.

    Raises: WeightsUnreadable where there are no tensors, too many, or some that are nested too deeply.
    """
    if not isinstance(loaded, Mapping):
        raise WeightsUnreadable(f"The checkpoint holds a {type(loaded).__name__}, not a state dict; {ADVICE}")
    tensor_containers = _find_tensor_containers(loaded)
    tree: TensorTree = {}
    pending: list[tuple[str, _Container, frozenset[int]]] = [("", loaded, frozenset())]
    entries = 0
    for path, container, ancestors in pending:  # grows during the loop
        entries += len(container)
        if len(pending) > MAX_CONTAINERS or entries > MAX_ENTRIES:
            raise WeightsUnreadable(
                f"The checkpoint holds more than {MAX_CONTAINERS:,} mappings or {MAX_ENTRIES:,} entries; {ADVICE}"
            )
        if len(ancestors) > MAX_DEPTH:
            raise WeightsUnreadable(
                f"The checkpoint holds tensors in {path[:200]}, more than {MAX_DEPTH} mappings or lists deep; {ADVICE}"
            )
        path_ids = ancestors | {id(container)}
        for key, value in _iterate_entries(container):
            if isinstance(value, Tensor):
                tensors, name = tree.setdefault(path, {}), _convert_key(key)
                if name in tensors:
                    raise WeightsUnreadable(f"The checkpoint holds {path}.{name} twice; {ADVICE}")
                tensors[name] = value.detach()
            elif isinstance(value, Mapping | list | tuple) and id(value) in tensor_containers - path_ids:
                pending.append((f"{path}.{_convert_key(key)}".lstrip("."), value, path_ids))
    if tree.keys() <= {""} and all(name.isdecimal() for name in tree.get("", {})):
        raise WeightsUnreadable(f"The checkpoint holds no tensors by name, so it is not a state dict; {ADVICE}")
    return tree


def _find_tensor_containers(loaded: _Container) -> set[int]:
    """Return the identities of the containers that contain a tensor, at any depth."""
    parents, pending_ids = defaultdict[int, list[int]](list), list[int]()
    pending, visited_ids = [loaded], {id(loaded)}
    while pending:
        container = pending.pop()
        values = container.values() if isinstance(container, Mapping) else container
        if any(isinstance(value, Tensor) for value in values):
            pending_ids.append(id(container))
        for value in values:
            if isinstance(value, Mapping | list | tuple):
                parents[id(value)].append(id(container))
                if id(value) not in visited_ids:
                    visited_ids.add(id(value))
                    pending.append(value)
    container_ids = set(pending_ids)
    while pending_ids:
        ancestors = set(parents[pending_ids.pop()]) - container_ids
        container_ids |= ancestors
        pending_ids += ancestors
    return container_ids


def _iterate_entries(container: _Container) -> Iterator[tuple[object, object]]:
    """Yield the entries by key or number; a pair of a name and a tensor in a list is an entry of that name."""
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


def _convert_key(key: object) -> str:
    """Return the key as text. Raises: WeightsUnreadable where it is too long."""
    name = str(key)
    if len(name) > MAX_NAME:
        raise WeightsUnreadable(f"The key {name[:50]!r}… has {len(name):,} characters; at most {MAX_NAME:,} are read.")
    return name
