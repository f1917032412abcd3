"""ONNX files: parse one from bytes, refuse everything that a classifier does not need, and return its graph.

An ONNX file holds no code, but its author chooses sizes and nesting freely. So the fields are counted before they are parsed,
and the tensors are compared with the bytes that they have.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faal_core.errors import InvalidSpec, WeightsUnreadable
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.networks.onnx.description import Graph, Node
from faal_core.networks.onnx.effort import MAX_DIMENSIONS
from faal_core.networks.onnx.table import DTYPES, FLOAT, OPERATORS
from faal_core.specs.classifier import MAX_CHANNELS
from faal_core.weights.onnx_pruning import find_needed, hash_graph, prune
from faal_core.weights.protobuf_effort import TooManyFields, check_fields

MAX_BYTES = 2**31 - 1  # protobuf's own limit
MAX_NODES = 20_000
MAX_SIDE = 4096  # pixels
OLDEST_OPERATORS, NEWEST_OPERATORS = 13, 25  # versions of the operator set
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STANDARD_DOMAINS = ("", "ai.onnx")
_ADVICE = (
    "Export the network again in eval mode: torch.onnx.export(network.eval(), (images,), path, external_data=False)."
)


def read_graph(path: Path) -> tuple[Graph, bytes]:
    """Return the checked graph in `path`, and a model of the parts that its output needs, for onnxruntime.

    Raises: WeightsUnreadable; InvalidSpec without onnx.
    """
    onnx = import_onnx("onnx")
    if path.stat().st_size > MAX_BYTES:
        raise _refuse(f"it has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    content = path.read_bytes()
    try:
        check_fields(content, onnx.ModelProto.DESCRIPTOR)
        model = onnx.ModelProto.FromString(content)
    except (TooManyFields, ValueError) as error:
        raise _refuse(f"it is damaged or too large to parse ({error})") from None
    except Exception as error:  # noqa: BLE001 - neither package documents its exceptions
        require_memory(error, "to read the ONNX file")
        raise _refuse(f"it is damaged ({str(error)[:200]})") from None
    del content
    graph = _read_model(onnx, model)
    return graph, model.SerializeToString()


def import_onnx(package: str) -> Any:  # noqa: ANN401 - a module
    """Return onnx or onnxruntime. Raises: InvalidSpec where it is not installed."""
    from importlib import import_module

    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise InvalidSpec(
            f"ONNX files need the package {package}, which is not installed. Run pip install 'faal[onnx]'"
        ) from None


def _refuse(reason: str) -> WeightsUnreadable:
    """Return the error for a file that is refused."""
    return WeightsUnreadable(f"The ONNX file is refused: {reason}. {_ADVICE}")


def _read_model(onnx: Any, model: Any) -> Graph:  # noqa: ANN401 - protobuf's messages have no types
    """Return the graph of a parsed model, and remove from the model what its output does not need. Raises: WeightsUnreadable."""
    if not model.HasField("graph"):
        raise _refuse("it has no graph")
    for name, parts in {"functions": model.functions, "training information": model.training_info}.items():
        if len(parts):
            raise _refuse(f"it has {name}, which are not supported")
    versions = [one.version for one in model.opset_import if one.domain in _STANDARD_DOMAINS]
    if len(versions) != 1 or not OLDEST_OPERATORS <= versions[0] <= NEWEST_OPERATORS:
        raise _refuse(
            f"it uses version {', '.join(map(str, versions)) or 'none'} of ONNX's operators; versions {OLDEST_OPERATORS} to "
            f"{NEWEST_OPERATORS} are supported (opset_version=20)"
        )
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise _refuse(f"it has {len(graph.node):,} nodes; at most {MAX_NODES:,} are supported")
    if len(graph.sparse_initializer):
        raise _refuse("it has sparse tensors, which are not supported")
    constants: dict[str, Tensor] = {}
    _require_text(*(one.name for one in (*graph.initializer, *graph.input, *graph.output)))
    for tensor in graph.initializer:
        if tensor.name in constants or not tensor.name:
            raise _refuse(f"two of its tensors have the name {tensor.name[:100]!r}")
        constants[tensor.name] = _read_tensor(tensor, tensor.name)
    nodes = [_read_node(onnx, node, constants) for node in graph.node]
    name, batch, shape = _read_input(graph, constants)
    output = _read_output(graph)
    needed = find_needed(nodes, output)
    prune(graph, needed, name)
    nodes = [node for node in nodes if node.operator != "Constant" and not needed.isdisjoint(node.outputs)]
    constants = {key: tensor for key, tensor in constants.items() if key in needed}
    return Graph(
        nodes, constants, name, output, shape, batch, hash_graph(graph, [name, output, batch, shape], constants)
    )


def _require_text(*names: object) -> None:
    """Check that names are text: protobuf returns bytes where they are no UTF-8. Raises: WeightsUnreadable."""
    if not all(isinstance(name, str) for name in names):
        raise _refuse("one of its names is not in UTF-8")
    if any(_CONTROL.search(str(name)) for name in names):
        raise _refuse("one of its names has control characters")


def _read_node(onnx: Any, node: Any, constants: dict[str, Tensor]) -> Node:  # noqa: ANN401
    """Return the node; the value of a Constant is added to the constants. Raises: WeightsUnreadable."""
    _require_text(node.op_type, *node.input, *node.output, *(one.name for one in node.attribute))
    kind = node.op_type[:100]
    if node.domain not in _STANDARD_DOMAINS:
        raise _refuse(f"its operator {kind} is of the domain {node.domain[:100]!r}, and only ONNX's own are supported")
    if kind != "Constant" and kind not in OPERATORS:
        raise _refuse(
            f"its operator {kind} is not supported; these are: {', '.join(sorted(OPERATORS))}. "
            "If the network does not need it, replace it in the network's code"
        )
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.ref_attr_name or attribute.name in attributes:
            raise _refuse(f"the attribute {attribute.name[:100]!r} of its operator {kind} is invalid")
        attributes[attribute.name] = _read_attribute(onnx, attribute, kind)
    outputs = tuple(node.output)
    while outputs and not outputs[-1]:
        outputs = outputs[:-1]
    if not outputs or (len(outputs) > 1 and kind != "Split"):
        raise _refuse(f"its operator {kind} has {len(outputs)} outputs, and one is supported")
    if kind == "Constant":
        if len(attributes) != 1 or outputs[0] in constants:
            raise _refuse(f"its constant {outputs[0][:100]!r} has no value or is not the only one of that name")
        value = next(iter(attributes.values()))
        constants[outputs[0]] = value if isinstance(value, Tensor) else _as_tensor(value, kind)
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    return Node(kind, tuple(inputs), outputs, attributes)


def _as_tensor(value: object, kind: str) -> Tensor:
    """Return a number as a tensor. Raises: WeightsUnreadable for text."""
    if isinstance(value, str):
        raise _refuse(f"its operator {kind} holds text, which is not supported")
    return torch.tensor(value)


def _read_attribute(onnx: Any, attribute: Any, kind: str) -> object:  # noqa: ANN401
    """Return the value as a number, text, list or tensor. Raises: WeightsUnreadable for graphs and other types."""
    types = onnx.AttributeProto
    match attribute.type:
        case types.FLOAT:
            return attribute.f
        case types.INT:
            return attribute.i
        case types.STRING:
            return attribute.s.decode(errors="backslashreplace")
        case types.TENSOR:
            return _read_tensor(attribute.t, f"the attribute {attribute.name[:100]} of {kind}")
        case types.FLOATS | types.INTS:
            return _read_list(attribute, attribute.type == types.FLOATS, kind)
    name = (
        types.AttributeType.Name(attribute.type) if attribute.type in types.AttributeType.values() else attribute.type
    )
    raise _refuse(
        f"its operator {kind} has the attribute {attribute.name[:100]!r} of type {name}, which is not supported"
    )


def _read_list(attribute: Any, is_float: bool, kind: str) -> object:  # noqa: ANN401
    """Return the numbers of a Constant as a tensor, others as a short list. Raises: WeightsUnreadable for a long one."""
    numbers = attribute.floats if is_float else attribute.ints
    if kind == "Constant":
        return torch.from_numpy(np.fromiter(numbers, "f4" if is_float else "i8", len(numbers)))
    if len(numbers) > 2 * MAX_DIMENSIONS:
        raise _refuse(f"the attribute {attribute.name[:100]!r} of its operator {kind} has {len(numbers):,} numbers")
    return list(numbers)


def _read_tensor(tensor: Any, name: str) -> Tensor:  # noqa: ANN401
    """Return a copy of the tensor. Raises: WeightsUnreadable where type, size or place is not supported."""
    name = name[:100]
    if tensor.data_location != 0 or len(tensor.external_data):
        raise _refuse(f"the values of {name!r} are in another file (external data)")
    if tensor.HasField("segment"):
        raise _refuse(f"the values of {name!r} are in segments")
    if tensor.data_type not in DTYPES:
        raise _refuse(
            f"{name!r} has type {tensor.data_type} of TensorProto.DataType; float32, float64, int8, uint8, int32, int64 and bool "
            "are supported"
        )
    dims, dtype = tuple(tensor.dims), DTYPES[tensor.data_type]
    if len(dims) > MAX_DIMENSIONS or any(size < 0 for size in dims) or (len(dims) > 1 and 0 in dims):
        raise _refuse(f"{name!r} has the shape {dims[:10]}")
    values = _read_values(tensor, dtype)
    if len(values) != math.prod(dims):
        raise _refuse(f"{name!r} claims {math.prod(dims):,} values and has {len(values):,}")
    return torch.from_numpy(values).reshape(dims)


def _read_values(tensor: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - a NumPy array of that type
    """Return the values in one row; bytes beyond the last whole value count as one more."""
    numpy_type = np.dtype(str(dtype).removeprefix("torch."))
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) % numpy_type.itemsize:
            raise _refuse(f"{tensor.name[:100]!r} has a part of a value at its end")
        stored = np.frombuffer(raw, "u1" if dtype is torch.bool else numpy_type.newbyteorder("<"))
    else:
        fields = {torch.float32: "float_data", torch.float64: "double_data", torch.int64: "int64_data"}
        numbers = getattr(tensor, fields.get(dtype, "int32_data"))
        # Without a list of Python's numbers, which take 32 bytes each.
        stored = np.fromiter(numbers, numpy_type if dtype in fields else "i4", len(numbers))
        return stored.astype(numpy_type, copy=False)
    return stored.astype(numpy_type)


def _read_input(graph: Any, constants: dict[str, Tensor]) -> tuple[str, int | None, tuple[int, int, int]]:  # noqa: ANN401
    """Return name, batch size and image shape of the only input that is no constant. Raises: WeightsUnreadable."""
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise _refuse(f"it has {len(inputs)} inputs; a classifier has one, the images")
    _check_type(inputs[0], "input")
    dims = list(_iterate_dims(inputs[0]))
    if len(dims) != 4:
        raise _refuse(f"its input has {len(dims)} dimensions; images have four: batch, channels, height and width")
    batch, *shape = dims
    if any(size is None for size in shape):
        raise _refuse("channels, height or width of its input are not fixed; only the batch size may vary")
    channels, height, width = (size or 0 for size in shape)
    if not (1 <= channels <= MAX_CHANNELS and 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise _refuse(
            f"its images are {channels} × {height} × {width} (channels, height, width); at most {MAX_CHANNELS} × {MAX_SIDE} × "
            f"{MAX_SIDE} are supported, channels first"
        )
    return inputs[0].name, batch, (channels, height, width)


def _read_output(graph: Any) -> str:  # noqa: ANN401
    """Return the name of the only output. Raises: WeightsUnreadable."""
    if len(graph.output) != 1:
        raise _refuse(f"it has {len(graph.output)} outputs; a classifier has one, the logits")
    _check_type(graph.output[0], "output")
    return str(graph.output[0].name)


def _check_type(value: Any, noun: str) -> None:  # noqa: ANN401
    """Check that the value is a float32 tensor. Raises: WeightsUnreadable."""
    if value.type.WhichOneof("value") != "tensor_type" or value.type.tensor_type.elem_type != FLOAT:
        raise _refuse(f"its {noun} {value.name[:100]!r} is no float32 tensor; export the network in float32")


def _iterate_dims(value: Any) -> Iterator[int | None]:  # noqa: ANN401
    """Yield each dimension, None where it is not fixed."""
    for dim in value.type.tensor_type.shape.dim:
        yield dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None
