"""The description of a graph of ONNX, free of ONNX's own classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from faal_core.errors import WeightsUnreadable


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the graph: an operator, the names of its inputs and outputs, and its attributes by ONNX's names."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that was checked: one input of images, one output of logits, no nested graphs.

    Args:
        image_shape: shape of one image, `c h w`.
        batch: the only batch size that the file accepts; None for any.
        nodes: those that the output needs, in order.
        constants: the tensors in the file that the output needs, by name.
        sha256: of the input, the output, the nodes and the constants.
    """

    nodes: Sequence[Node]
    constants: Mapping[str, Tensor]
    input: str
    output: str
    image_shape: tuple[int, int, int]
    batch: int | None
    sha256: str


def refuse_node(node: Node, reason: str) -> WeightsUnreadable:
    """Return the error for a node that cannot be computed."""
    return WeightsUnreadable(
        f"The ONNX file cannot be audited: of the operator {node.operator} with the output "
        f"{(node.outputs or ('',))[0][:100]!r}, {reason}."
    )
