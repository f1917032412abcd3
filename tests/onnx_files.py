"""ONNX files for tests: exported by torch, and built node by node."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

IMAGE = (3, 8, 8)
CLASSES = 5


def convolutional_network(classes: int = CLASSES) -> nn.Module:
    """Return a small network with batch-norm, whose statistics are not those of a fresh layer."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    ).eval()
    network[1].running_mean.normal_(0, 0.2)
    network[1].running_var.uniform_(0.5, 1.5)
    return network


def export(
    network: nn.Module, path: Path, shape: Sequence[int] = IMAGE, *, folded: bool = True, batch: int = 0
) -> Path:
    """Export the network by torch's current exporter, for any batch size or for a fixed one, and return the path."""
    images = (torch.rand(batch or 2, *shape),)
    sizes = None if batch else ({0: torch.export.Dim("n")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and onnxscript warn of their own deprecated calls
        torch.onnx.export(
            network,
            images,
            path,
            dynamo=True,
            optimize=folded,
            external_data=False,
            dynamic_shapes=sizes,
            verbose=False,
        )
    return path


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node; the inputs are names with blanks between."""
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def tensor(name: str, values: Any, dtype: str = "float32") -> onnx.TensorProto:
    """Return an initializer."""
    return onnx.numpy_helper.from_array(np.array(values, dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int | str] = ("n", *IMAGE),
    opset: int = 20,
    domains: Sequence[str] = (),
    float_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a model whose input is `x` and whose output is `y`."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", float_type, shape)],
        [helper.make_tensor_value_info("y", float_type, None)],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def honest_nodes() -> list[onnx.NodeProto]:
    """Return the nodes of a linear classifier, which needs the initializer of `honest_weights`."""
    return [node("Flatten", "x", "flat"), node("MatMul", "flat weight", "y")]


def honest_weights() -> onnx.TensorProto:
    """Return the weights of `honest_nodes`."""
    return tensor("weight", np.random.default_rng(0).normal(size=(int(np.prod(IMAGE)), CLASSES)))


def honest_model(
    *before: onnx.NodeProto, initializers: Sequence[onnx.TensorProto] = (), **options: Any
) -> onnx.ModelProto:
    """Return a linear classifier, with nodes before its own: the images are `x` for them, and for the classifier `x`, too."""
    return model([*before, *honest_nodes()], [honest_weights(), *initializers], **options)
