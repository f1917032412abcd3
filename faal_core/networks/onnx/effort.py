"""Bound what a graph takes before it takes it: its nodes are tried on tensors without memory."""

from collections.abc import Collection, Sequence

from torch import Tensor

from faal_core.networks.onnx.description import Node, refuse_node

MAX_VALUE_BYTES = 2**28  # of one intermediate result for one image; large classifiers need a tenth
MAX_LIVE_BYTES = 2**29  # of all intermediate results at a time, for one image
MAX_ALL_BYTES = 2**34  # of all intermediate results, for one image: some seconds
MAX_OPERATIONS = 10**12  # of convolutions and products of matrices, for one image; ViT-H/14 needs a third
MAX_DIMENSIONS = 8
TRIAL_BATCH = 2  # images


class Effort:
    """Adds up what the nodes take: bytes at a time, bytes in all, and operations of the products of matrices."""

    def __init__(self, nodes: Sequence[Node], output: str) -> None:
        self._last_use = {name: number for number, node in enumerate(nodes) for name in node.inputs}
        self._last_use[output] = len(nodes)
        self._sizes: dict[str, int] = {}
        self._live_bytes, self._all_bytes, self._number = 0, 0, 0

    def add(self, node: Node, outputs: Sequence[Tensor], operations: int) -> None:
        """Add a node by its outputs without memory. Raises: WeightsUnreadable for a size or a sum that is too large.

        Args:
            operations: those of all nodes up to this one, for the batch of the trial.
        """
        for name, output in zip(node.outputs, outputs, strict=False):
            size = output.numel() * output.element_size() // TRIAL_BATCH
            if output.ndim > MAX_DIMENSIONS:
                raise refuse_node(
                    node, f"a result would have {output.ndim} dimensions; at most {MAX_DIMENSIONS} are supported"
                )
            _require(node, size, MAX_VALUE_BYTES, f"bytes of a result of shape {tuple(output.shape)}")
            self._sizes[name] = size
            self._live_bytes += size
            self._all_bytes += size
        _require(node, self._live_bytes, MAX_LIVE_BYTES, "bytes of results at a time")
        _require(node, self._all_bytes, MAX_ALL_BYTES, "bytes of results")
        _require(node, operations // TRIAL_BATCH, MAX_OPERATIONS, "operations")
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


def _require(node: Node, amount: int, limit: int, things: str) -> None:
    """Check an amount for one image. Raises: WeightsUnreadable."""
    if amount > limit:
        raise refuse_node(
            node, f"the graph would take {amount:,} {things} for an image; at most {limit:,} are supported"
        )
