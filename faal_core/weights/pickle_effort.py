"""Limit the cost of a pickle before it is read: a few bytes can ask for hours of work."""

import pickletools
from dataclasses import dataclass

MAX_OPERATIONS = 600_000  # five thousand tensors with an optimiser's state take about 400,000
MAX_VALUES = 10_000_000  # each counted at every reference: hashing a tuple visits all
MAX_DEPTH = 200  # of nested containers; hashing a tuple recurses on the C stack
MAX_LONG_INTEGERS = 1_000  # of more than 8 bytes; an attacker can make their hashes collide
_INTO_CONTAINER = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_MARK = pickletools.markobject


class TooMuchEffort(ValueError):
    """Reading the pickle would take too long; the message says why."""


@dataclass(frozen=True, slots=True)
class _Effort:
    """The cost of walking through a value.

    Args:
        values: the number of values in it, each counted as often as it is referred to.
        depth: their nesting depth.
        tensor: whether one of them is a tensor, which can have any number of elements on a few bytes.
        function: the name of a callable, "module name".
    """

    values: int = 1
    depth: int = 0
    tensor: bool = False
    function: str = ""


def check_effort(pickled: bytes) -> None:
    """Check that a pickle can be read in bounded time. This reads its operations and builds no values.

    Raises: TooMuchEffort; ValueError for an invalid pickle.
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
            stack += [_combine(name, _pop_operands(operation, stack))] * len(operation.stack_after)


def _pop_operands(operation: pickletools.OpcodeInfo, stack: list[_Effort | None]) -> list[_Effort]:
    """Pop the operands of the operation from the stack and return them, the lowest first."""
    before = operation.stack_before
    operands: list[_Effort] = []
    if _MARK in before:
        while stack and (effort := stack.pop()) is not None:
            operands.append(effort)
        before = before[: before.index(_MARK)]
    operands.extend((stack.pop() if stack else None) or _Effort() for _ in before)
    return operands[::-1]


def _combine(name: str, operands: list[_Effort]) -> _Effort:
    """Return the effort of the operation's result. Raises: TooMuchEffort."""
    values = 1 + sum(effort.values for effort in operands)
    tensor = any(effort.tensor for effort in operands)
    container, *items = operands or [_Effort()]
    if name in _INTO_CONTAINER:
        depth = max(container.depth, 1 + max((effort.depth for effort in items), default=0))
    else:
        depth = 1 + max((effort.depth for effort in operands), default=-1)
    if values > MAX_VALUES:
        raise TooMuchEffort(f"its pickle refers to more than {MAX_VALUES:,} values")
    if depth > MAX_DEPTH:
        raise TooMuchEffort(f"its pickle nests values more than {MAX_DEPTH} deep")
    if name in ("REDUCE", "NEWOBJ"):
        tensor = _returns_tensor(container.function, on_tensor=tensor)
    return _Effort(values, depth, tensor)


def _returns_tensor(function: str, *, on_tensor: bool) -> bool:
    """Return whether calling the function returns a tensor. Raises: TooMuchEffort for a call with unbounded cost."""
    rebuilds = function.startswith(("torch._utils _rebuild", "torch._tensor _rebuild"))
    if function.endswith(" bytearray"):
        raise TooMuchEffort("its pickle calls bytearray, which may allocate any number of bytes")
    if on_tensor and not rebuilds:
        raise TooMuchEffort(f"its pickle calls {function.replace(' ', '.') or 'a value'} on a tensor")
    return rebuilds
