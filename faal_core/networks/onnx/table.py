"""The table of ONNX's operators that classifiers use; others are refused by name.

Each function takes the inputs of a node in ONNX's order, and its attributes under ONNX's names as keyword-only arguments.
Source: https://onnx.ai/onnx/operators, versions 13 to 25 of the operator set.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FLOAT = 1  # TensorProto.FLOAT
DTYPES = {
    FLOAT: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    11: torch.float64,
}
"""The supported types of tensors by their number in `TensorProto.DataType`."""

Ints = Sequence[int]


class UnsupportedNode(ValueError):
    """A node uses a part of its operator that is not supported."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of ONNX.

    Args:
        function: computes the outputs from inputs and attributes.
        numbers: positions of the inputs that are read as Python numbers: shapes, axes, bounds of slices.
        attributes: names of the supported attributes.
    """

    function: Callable[..., Any]
    numbers: frozenset[int] = frozenset()
    attributes: frozenset[str] = frozenset()


OPERATORS: dict[str, Operator] = {}


def define(name: str, *numbers: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the function of an operator to `OPERATORS`.

    Args:
        numbers: as in `Operator`.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        attributes = frozenset(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
        OPERATORS[name] = Operator(function, frozenset(numbers), attributes)
        return function

    return add


def normalise_axis(axis: int, rank: int) -> int:
    """Return the axis counted from the front. Raises: UnsupportedNode where there is no such axis."""
    if not -rank <= axis < rank:
        raise UnsupportedNode(f"axis {axis} of a tensor of {rank} dimensions")
    return axis % rank if rank else 0
