"""ONNX files that are damaged, hostile or not supported, each with the reason for which it is refused."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.onnx_files import CLASSES, honest_model, honest_nodes, honest_weights, model, node, tensor

HUGE = 2**40


def external_data() -> onnx.ModelProto:
    """Return a model whose weights are in /etc/passwd."""
    made = honest_model()
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    return made


def with_subgraph(operator: str, attribute: str, inputs: str, **attributes: int) -> onnx.ModelProto:
    """Return a model with a node that holds a graph."""
    body = helper.make_graph([node("Identity", "a", "b")], "body", [], [helper.make_tensor_value_info("b", 1, None)])
    return model([node(operator, inputs, "y", **{attribute: body}, **attributes)], [tensor("count", HUGE, "int64")])


def with_function() -> onnx.ModelProto:
    """Return a model that replaces an operator of ONNX by a function of its own."""
    made = honest_model()
    opsets = [helper.make_opsetid("", 20)]
    made.functions.append(helper.make_function("", "Flatten", ["a"], ["b"], [node("Neg", "a", "b")], opsets))
    return made


def with_training() -> onnx.ModelProto:
    """Return a model with training information."""
    made = honest_model()
    made.training_info.add()
    return made


def with_sparse_tensor() -> onnx.ModelProto:
    """Return a model with a sparse initializer."""
    made = honest_model()
    values, places = tensor("sparse", [1.0]), tensor("places", [HUGE - 1], "int64")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [HUGE]))
    return made


def with_dims(*dims: int) -> onnx.ModelProto:
    """Return a model whose weights claim that shape."""
    made = honest_model()
    made.graph.initializer[0].dims[:] = dims
    return made


def with_cycle() -> onnx.ModelProto:
    """Return a model with two nodes that need each other."""
    return model([node("Add", "x b", "a"), node("Add", "a x", "b"), node("Flatten", "b", "y")])


def with_two_inputs() -> onnx.ModelProto:
    """Return a model with a second input."""
    made = honest_model()
    made.graph.input.append(helper.make_tensor_value_info("mask", 1, [1]))
    return made


def made_of(*nodes: onnx.NodeProto, **initializers: object) -> onnx.ModelProto:
    """Return a model of these nodes and integer initializers."""
    return model(nodes, [tensor(name, values, "int64") for name, values in initializers.items()])


def double(times: int) -> onnx.ModelProto:
    """Return a model in which each node doubles its input's size."""
    names = ["x", *(f"v{number}" for number in range(times))]
    nodes = [node("Concat", f"{one} {one}", two, axis=3) for one, two in pairwise(names)]
    return model([*nodes, node("Flatten", names[-1], "y")])


def kept_alive() -> onnx.ModelProto:
    """Return a model of forty results of 100 MB an image that the last node needs."""
    size = tensor("size", [1, 512, 256, 200], "int64")
    scale = [node("Expand", "one size", "large")] + [node("Add", "pixel large", f"v{number}") for number in range(40)]
    pixel = node("ReduceMean", "x axes", "pixel")
    total = node("Sum", " ".join(f"v{number}" for number in range(40)), "sum")
    return model(
        [pixel, *scale, total, node("Flatten", "sum", "y")],
        [size, tensor("one", [1.0]), tensor("axes", [1, 2, 3], "int64")],
    )


def large_constants() -> onnx.ModelProto:
    """Return a model of forty constants of 200 MB that it computes from a single number, and adds to the images."""
    nodes = [node("ReduceMean", "x axes", "v0")]
    for number in range(40):
        nodes += [node("Expand", "one size", f"e{number}"), node("Add", f"e{number} one", f"c{number}")]
        nodes += [node("ReduceMax", f"c{number} axes", f"m{number}"), node("Add", f"v{number} c{number}", f"a{number}")]
        nodes += [node("ReduceMax", f"a{number} axes", f"v{number + 1}")]
    size, axes = tensor("size", [1, 50, 1000, 1000], "int64"), tensor("axes", [1, 2, 3], "int64")
    return model([*nodes, node("Flatten", "v40", "y")], [size, tensor("one", [1.0]), axes])


def long_computation() -> onnx.ModelProto:
    """Return a model of thousands of products of large matrices, whose results are small."""
    nodes = [node("Expand", "one size", "square"), node("MatMul", "x first", "v0")]
    nodes += [node("MatMul", f"v{number} square", f"v{number + 1}") for number in range(3000)]
    first = tensor("first", np.ones((8, 4096)))
    size = tensor("size", [4096, 4096], "int64")
    return model([*nodes, node("Flatten", "v3000", "y")], [first, tensor("one", [[1.0]]), size])


def many_fields() -> bytes:
    """Return a model of three million empty nodes."""
    nodes = b"\x0a\x00" * 3_000_000
    return b"\x08\x0a\x3a" + varint(len(nodes)) + nodes


def many_integers() -> bytes:
    """Return a model with a tensor of 40 million integers of one byte each."""
    values = bytes(40_000_000)
    weights = b"\x3a" + varint(len(values)) + values
    graph = b"\x2a" + varint(len(weights)) + weights
    return b"\x08\x0a\x3a" + varint(len(graph)) + graph


def nest(times: int) -> bytes:
    """Return a model of graphs in attributes of nodes of graphs."""
    content = b""
    for _ in range(times):
        for key in (b"\x32", b"\x2a", b"\x0a"):
            content = key + varint(len(content)) + content
    return b"\x08\x0a\x3a" + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return the number as protobuf writes it."""
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def odd_name() -> bytes:
    """Return a model with a name that is not in UTF-8."""
    return honest_model().SerializeToString().replace(b"flat", b"fl\xfft")


def many_floats() -> bytes:
    """Return a model with a tensor of one value that has a list of 25 million; Python's would take 800 MB."""
    values = bytes(100_000_000)
    content = b"\x08\x01\x10\x01\x42\x04list\x22" + varint(len(values)) + values
    graph = b"\x2a" + varint(len(content)) + content
    return honest_model().SerializeToString() + b"\x3a" + varint(len(graph)) + graph  # protobuf merges the graphs


def empty_constant() -> onnx.ModelProto:
    """Return a model that reverses the rows of a tensor without values that claims 2⁶² rows."""
    bounds = {"first": 2**62, "last": -(2**62), "axis": 1, "step": -1}
    initializers = [tensor(name, [value], "int64") for name, value in bounds.items()]
    initializers.append(TensorProto(name="empty", data_type=1, dims=[0, 2**62], raw_data=b""))
    return model([node("Slice", "empty first last axis step", "s"), node("Add", "x s", "y")], initializers)


def large_window(operator: str, side: int, kernel: int) -> onnx.ModelProto:
    """Return a model that slides a large window over large images."""
    window = node(operator, "x w" if operator == "Conv" else "x", "c", kernel_shape=[kernel, kernel])
    weights = [tensor("w", np.ones((1, 1, kernel, kernel)))]
    return model([window, node("Flatten", "c", "y")], weights, shape=["n", 1, side, side])


def truncate() -> bytes:
    """Return the first half of an honest file."""
    content = honest_model().SerializeToString()
    return content[: len(content) // 2]


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "external data": (external_data, "'weight' are in another file"),
    "a domain": (
        lambda: model([node("Evil", "x", "y", domain="evil")], domains=["evil"]),
        "Evil is of the domain 'evil'",
    ),
    "Loop": (lambda: with_subgraph("Loop", "body", "count x"), "operator Loop is not supported"),
    "If": (lambda: with_subgraph("If", "then_branch", "x"), "operator If is not supported"),
    "Scan": (lambda: with_subgraph("Scan", "body", "x", num_scan_inputs=1), "operator Scan is not supported"),
    "a graph in an attribute": (lambda: with_subgraph("Relu", "body", "x"), "'body' of type GRAPH"),
    "a function": (with_function, "it has functions"),
    "training information": (with_training, "training information"),
    "a sparse tensor": (with_sparse_tensor, "sparse tensors"),
    "text": (lambda: honest_model(node("Constant", "", "text", value_string="a")), "Constant holds text"),
    "a tensor of text": (
        lambda: honest_model(
            initializers=[TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])]
        ),
        "'text' has type 8",
    ),
    "random numbers": (
        lambda: honest_model(node("RandomNormalLike", "x", "z")),
        "operator RandomNormalLike is not supp",
    ),
    "an unknown attribute": (lambda: model([node("Relu", "x", "y", slope=1.0)]), "Relu .* attribute slope is not"),
    "huge ConstantOfShape": (
        lambda: made_of(node("ConstantOfShape", "size", "c"), node("Add", "x c", "y"), size=[HUGE, 1]),
        r"ConstantOfShape .* bytes of a result of shape \(1099511627776, 1\)",
    ),
    "huge Expand": (
        lambda: made_of(node("Expand", "x size", "e"), node("Flatten", "e", "y"), size=[HUGE, 1, 1, 1, 1]),
        "Expand .* bytes of a result",
    ),
    "huge Tile": (
        lambda: made_of(node("Tile", "x size", "t"), node("Flatten", "t", "y"), size=[1, 1, 2**20, 2**20]),
        "Tile .* bytes of a result",
    ),
    "huge Range": (
        lambda: made_of(node("Range", "zero end one", "r"), node("Add", "x r", "y"), zero=0, end=HUGE, one=1),
        "Range .* bytes of a result",
    ),
    "huge Pad": (
        lambda: made_of(node("Pad", "x pads", "p"), node("Flatten", "p", "y"), pads=[0, 0, 0, 0, 0, 0, 2**20, 2**20]),
        "Pad .* bytes of a result",
    ),
    "huge pads of Conv": (
        lambda: model(
            [node("Conv", "x w", "c", pads=[2**20] * 4), node("Flatten", "c", "y")],
            [tensor("w", np.ones((1, 3, 1, 1)))],
        ),
        "Conv .* bytes of a result",
    ),
    "a product of broadcasts": (
        lambda: made_of(
            node("Reshape", "x row", "r"),
            node("Reshape", "x column", "c"),
            node("Mul", "r c", "p"),
            node("Mul", "p q", "y"),
            node("ConstantOfShape", "size", "q"),
            row=[0, 1, -1],
            column=[0, -1, 1],
            size=[2**20, 1, 1, 1],
        ),
        "'q' is computed nowhere before it",
    ),
    "doubling": (lambda: double(40), "Concat .* bytes of a result"),
    "many live results": (kept_alive, "bytes of results at a time"),
    "large constants": (large_constants, "bytes of results at a time"),
    "a long computation": (long_computation, "operations for an image"),
    "claimed values": (lambda: with_dims(HUGE, HUGE), "'weight' claims .* and has 960"),
    "negative dimensions": (lambda: with_dims(-1, CLASSES), r"'weight' has the shape \(-1, 5\)"),
    "many dimensions": (lambda: with_dims(*[1] * 50), "'weight' has the shape"),
    "a cycle": (with_cycle, "'b' is computed nowhere before it"),
    "two inputs": (with_two_inputs, "it has 2 inputs"),
    "two tensors of one name": (lambda: honest_model(initializers=[honest_weights()]), "two of its tensors"),
    "an input of any size": (lambda: honest_model(shape=["n", 3, "h", "w"]), "height or width"),
    "half precision": (lambda: model(honest_nodes(), float_type=TensorProto.FLOAT16), "no float32 tensor"),
    "old operators": (lambda: honest_model(opset=9), "version 9 of ONNX's operators"),
    "no dependence": (
        lambda: model([node("Identity", "weight", "y")], [honest_weights()]),
        "does not depend on its input",
    ),
    "no rows": (lambda: model([node("Relu", "x", "y")]), "one row of float32 logits"),
    "sizes of pixels": (
        lambda: model(
            [
                node("Flatten", "x", "f"),
                node("Cast", "f", "i", to=TensorProto.INT64),
                node("ReduceMax", "i", "m", keepdims=0),
                node("Range", "zero m one", "y"),
            ],
            [tensor("zero", 0, "int64"), tensor("one", 1, "int64")],
        ),
        "a size depends on pixels",
    ),
    "many axes": (
        lambda: made_of(node("Unsqueeze", "x many", "u"), node("Flatten", "u", "y"), many=list(range(100_000))),
        "input 2 has 100,000 numbers",
    ),
    "many numbers of an attribute": (
        lambda: model([node("Transpose", "x", "t", perm=[0] * 100_000), node("Flatten", "t", "y")]),
        "'perm' of its operator Transpose has 100,000 numbers",
    ),
    "many floats": (many_floats, "'list' claims 1 values and has 25,000,000"),
    "no values": (empty_constant, "'empty' has the shape"),
    "a result of no values": (lambda: made_of(node("Expand", "x size", "y"), size=[0, 1, 1, 1, 1]), "has no values"),
    "windows of Conv": (lambda: large_window("Conv", 1024, 32), "Conv .* bytes of windows"),
    "windows of MaxPool": (lambda: large_window("MaxPool", 4096, 2048), "MaxPool .* operations"),
    "a control character": (lambda: honest_model(node("Neg", "x", "a\0b")), "names has control characters"),
    "no graph": (lambda: b"\x08\x0a\x12\x01a", "it has no graph"),
    "a name of bytes": (odd_name, "names is not in UTF-8"),
    "truncated": (truncate, "in the middle of a field"),
    "many fields": (many_fields, "more than 1,000,000 fields"),
    "many integers": (many_integers, "integers take 40,000,000 bytes"),
    "nested": (lambda: nest(1000), "nested more than 12 deep"),
}
