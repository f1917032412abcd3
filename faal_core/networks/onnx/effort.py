"""Bound what a graph takes before it takes it: its nodes are tried on tensors without memory."""

import math
from collections.abc import Collection, Sequence

from torch import Tensor

from faal_core.networks.onnx.description import Node, refuse_node

MAX_VALUE_BYTES = 2**28  # of one intermediate result for one image
MAX_LIVE_BYTES = 2**29  # of all intermediate results at a time, for one image
MAX_ALL_BYTES = 2**34  # of all intermediate results, for one image: some seconds
MAX_OPERATIONS = 10**12  # of convolutions, pooling and products of matrices, for one image
MAX_DIMENSIONS = 8
TRIAL_BATCH = 2  # images
_DOUBLE = 8  # bytes of a number in the check of gradients


class Effort:
    """Adds up what the nodes take: bytes at a time, bytes in all, and operations of windows and products of matrices."""

    def __init__(self, nodes: Sequence[Node], output: str) -> None:
        self._last_use = {name: number for number, node in enumerate(nodes) for name in node.inputs}
        self._last_use[output] = len(nodes)
        self._sizes: dict[str, int] = {}
        self._live_bytes, self._all_bytes, self._number = 0, 0, 0
        self._pooling = 0

    def add(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], operations: int) -> None:
        """Add a node by its outputs without memory. Raises: WeightsUnreadable for a size or a sum that is too large.

        Args:
            operations: those of all nodes up to this one but of pooling, for the batch of the trial.
        """
        for name, output in zip(node.outputs, outputs, strict=False):
            size = output.numel() * output.element_size() // TRIAL_BATCH
            if output.ndim > MAX_DIMENSIONS:
                raise refuse_node(
                    node, f"a result would have {output.ndim} dimensions; at most {MAX_DIMENSIONS} are supported"
                )
            if output.ndim > 1 and 0 in output.shape:
                raise refuse_node(node, f"a result of shape {tuple(output.shape)} has no values")
            _require(node, size, MAX_VALUE_BYTES, f"bytes of a result of shape {tuple(output.shape)}")
            self._sizes[name] = size
            self._live_bytes += size
            self._all_bytes += size
        _require(node, self._live_bytes, MAX_LIVE_BYTES, "bytes of results at a time")
        _require(node, self._all_bytes, MAX_ALL_BYTES, "bytes of results")
        if node.operator == "Conv" and inputs[1] is not None:
            # torch copies each window's pixels into a row where the precision is double.
            rows = outputs[0].shape[2:].numel() * inputs[1].shape[1:].numel()
            _require(node, rows * _DOUBLE, MAX_VALUE_BYTES, "bytes of windows in double precision")
        if node.operator in ("AveragePool", "MaxPool"):
            self._pooling += outputs[0].numel() * math.prod(node.attributes["kernel_shape"])
        _require(node, (operations + self._pooling) // TRIAL_BATCH, MAX_OPERATIONS, "operations")
        self._number += 1

    def discount(self, node: Node) -> None:
        """Count no bytes for the outputs of a node that are other views of its inputs."""
        for name in node.outputs:
            self._live_bytes -= self._sizes.get(name, 0)
            self._sizes[name] = 0

    def release(self, node: Node, constants: Collection[str]) -> list[str]:
        """Return the inputs of the last node that no later node needs; their bytes count no longer.

        Args:
            constants: names to leave out, because the network stores their values.
        """
        names = [name for name in set(node.inputs).difference(constants) if self._last_use[name] == self._number - 1]
        for name in names:
            self._live_bytes -= self._sizes.pop(name, 0)
        return names


def require_few_numbers(node: Node, inputs: Sequence[Tensor | None], places: Collection[int]) -> None:
    """Check the length of lists of axes, sizes and the like before they are read. Raises: WeightsUnreadable.

    Args:
        places: those of the inputs that are such lists.
    """
    limit = MAX_DIMENSIONS
    if node.operator == "Pad":
        limit *= 2
    elif node.operator == "Split":
        limit = len(node.outputs)
    for place in places:
        numbers = inputs[place] if place < len(inputs) else None
        if numbers is not None and numbers.numel() > limit:
            raise refuse_node(node, f"its input {place + 1} has {numbers.numel():,} numbers; at most {limit} are read")


def _require(node: Node, amount: int, limit: int, things: str) -> None:
    """Check an amount for one image. Raises: WeightsUnreadable."""
    if amount > limit:
        raise refuse_node(
            node, f"the graph would take {amount:,} {things} for an image; at most {limit:,} are supported"
        )
