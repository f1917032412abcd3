"""Parts of an ONNX graph that its output needs: find them, remove the others, and compute the digest."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from faal_core.networks.onnx.description import Node


def find_needed(nodes: Sequence[Node], output: str) -> set[str]:
    """Return the names of the values that the output depends on."""
    needed = {output}
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(filter(None, node.inputs))
    return needed


def prune(graph: Any, needed: set[str], images: str) -> None:  # noqa: ANN401
    """Remove the nodes, tensors and inputs that are not needed, so that onnxruntime computes only what FAAL bounds."""
    tests = {
        "node": lambda one: not needed.isdisjoint(one.output),
        "initializer": lambda one: one.name in needed,
        "input": lambda one: one.name in needed or one.name == images,
    }
    for name, is_needed in tests.items():
        parts = getattr(graph, name)
        count = sum(map(is_needed, parts))
        parts.sort(key=lambda one, is_needed=is_needed: not is_needed(one))  # keeps the order; copies no tensor
        del parts[count:]
    for name in ("value_info", "quantization_annotation"):
        graph.ClearField(name)


def hash_graph(graph: Any, header: list[object], constants: dict[str, Tensor]) -> str:  # noqa: ANN401
    """Return the SHA-256 of a pruned graph: lists in JSON, each in one line, and the bytes of the constants."""
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    digest = hashlib.sha256(_encode([*header, len(nodes), len(constants)]))
    for node in nodes:
        for attribute in node.attribute:
            attribute.doc_string = ""
        attributes = sorted(one.SerializeToString(deterministic=True).hex() for one in node.attribute)
        digest.update(_encode([node.op_type, list(node.input), list(node.output), attributes]))
    for name, tensor in sorted(constants.items()):
        digest.update(_encode([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _encode(values: list[object]) -> bytes:
    """Return the list in JSON, as a line."""
    return json.dumps(values).encode() + b"\n"
