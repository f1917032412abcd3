"""A look at a pickle before it is read: a few bytes can ask for more work than anybody has time for."""

import pickletools
from dataclasses import dataclass

MAX_OPERATIONS = 600_000  # five thousand tensors with an optimiser's state take about 400,000
MAX_VALUES = 10_000_000  # counted wherever one is referred to: hashing a tuple visits each
MAX_DEPTH = 200  # of containers in containers; hashing a tuple descends on the processor's stack
MAX_LONG_INTEGERS = 1_000  # beyond 8 bytes; their hashes can be made to collide
_INTO_CONTAINER = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_MARK = pickletools.markobject


class TooMuchEffort(ValueError):
    """Reading the pickle would take too long; the message says why."""


@dataclass(frozen=True, slots=True)
class _Effort:
    """What it takes to walk through a value.

    Args:
        values: in it, each as often as it is referred to.
        depth: how deep they are nested.
        tensor: whether one of them is a tensor, which can have any number of elements on a few bytes.
        function: the name of what can be called, "module name".
    """

    values: int = 1
    depth: int = 0
    tensor: bool = False
    function: str = ""


def check_effort(pickled: bytes) -> None:
    """Check that a pickle is read in time, by its operations alone: nothing of it is built.

    Raises: TooMuchEffort; ValueError for a pickle that no reader understands.
    """
    stack: list[_Effort | None] = []  # None is a mark
    memo: dict[int, _Effort | None] = {}
    long_integers = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if number == MAX_OPERATIONS:
            raise TooMuchEffort(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        name = operation.name
        if isinstance(argument, int) and argument.bit_length() > 64:
            long_integers += 1
            if long_integers > MAX_LONG_INTEGERS:
                raise TooMuchEffort(f"its pickle has more than {MAX_LONG_INTEGERS:,} integers of more than 8 bytes")
        if name == "MARK":
            stack.append(None)
        elif name == "GLOBAL":
            stack.append(_Effort(function=str(argument)))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument or 0), _Effort()))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1] if stack else None
        else:
            stack += [_together(name, _taken(operation, stack))] * len(operation.stack_after)


def _taken(operation: pickletools.OpcodeInfo, stack: list[_Effort | None]) -> list[_Effort]:
    """What the operation takes from the stack, lowest first."""
    before = operation.stack_before
    taken: list[_Effort] = []
    if _MARK in before:
        while stack and (top := stack.pop()) is not None:
            taken.append(top)
        before = before[: before.index(_MARK)]
    taken.extend((stack.pop() if stack else None) or _Effort() for _ in before)
    return taken[::-1]


def _together(name: str, taken: list[_Effort]) -> _Effort:
    """The effort of what an operation makes of those. Raises: TooMuchEffort."""
    values = 1 + sum(effort.values for effort in taken)
    tensor = any(effort.tensor for effort in taken)
    container, *items = taken or [_Effort()]
    if name in _INTO_CONTAINER:
        depth = max(container.depth, 1 + max((effort.depth for effort in items), default=0))
    else:
        depth = 1 + max((effort.depth for effort in taken), default=-1)
    if values > MAX_VALUES:
        raise TooMuchEffort(f"its pickle refers to more than {MAX_VALUES:,} values")
    if depth > MAX_DEPTH:
        raise TooMuchEffort(f"its pickle nests values more than {MAX_DEPTH} deep")
    if name in ("REDUCE", "NEWOBJ"):
        tensor = _called(container.function, on_tensor=tensor)
    return _Effort(values, depth, tensor)


def _called(function: str, *, on_tensor: bool) -> bool:
    """Whether calling the function returns a tensor. Raises: TooMuchEffort for a call whose cost has no bound."""
    rebuilds = function.startswith(("torch._utils _rebuild", "torch._tensor _rebuild"))
    if function.endswith(" bytearray"):
        raise TooMuchEffort("its pickle calls bytearray, for any number of bytes")
    if on_tensor and not rebuilds:
        raise TooMuchEffort(f"its pickle calls {function.replace(' ', '.') or 'a value'} on a tensor")
    return rebuilds
