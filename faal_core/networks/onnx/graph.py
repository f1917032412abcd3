"""A network of ONNX operators as a module of torch, for inputs of any batch size. It computes in eval mode only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from faal_core.errors import InvalidSpec, WeightsUnreadable
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.networks.onnx.description import Graph, Node, refuse_node
from faal_core.networks.onnx.effort import TRIAL_BATCH, Effort, require_few_numbers
from faal_core.networks.onnx.table import OPERATORS

_FEW = 64  # integers; a shape or its parts, which stay in the machine's memory, where torch reads shapes
_SET_HERE = {"precision", "outputs", "any_batch"}  # parameters of operators that no attribute of a file sets


class Step(nn.Module):
    """Computes one node."""

    def __init__(self, node: Node, *, any_batch: bool = False) -> None:
        super().__init__()
        operator = OPERATORS[node.operator]
        known = operator.attributes - _SET_HERE
        self.node = node
        self.last_uses: tuple[str, ...] = ()
        self.numbers = operator.numbers
        self._function = operator.function
        self._needs_precision = "precision" in operator.attributes
        self._arguments: dict[str, Any] = {}
        for name, value in node.attributes.items():
            argument = name if name in known else f"{name}_"  # an older attribute for what is an input today
            if argument not in known:
                raise refuse_node(node, f"its attribute {name} is not supported")
            self._arguments[argument] = value
        if "outputs" in operator.attributes:
            self._arguments["outputs"] = len(node.outputs)
        if any_batch and "any_batch" in operator.attributes:
            self._arguments["any_batch"] = True

    def forward(self, inputs: Sequence[Tensor | None], precision: torch.dtype) -> Tensor | tuple[Tensor, ...]:
        """Return the output, or several as a tuple.

        Numbers among the inputs are on the CPU. Other tensors move to the device of the images.
        """
        devices = {one.device for one in inputs if one is not None}
        target = next((device for device in devices if device.type != "cpu"), None) if len(devices) > 1 else None
        values: list[Any] = []
        for place, one in enumerate(inputs):
            if one is None:
                values.append(None)
            elif place in self.numbers:
                values.append(one.tolist())
            else:
                values.append(one if target is None else one.to(target))
        more = {"precision": precision} if self._needs_precision else {}
        return self._function(*values, **self._arguments, **more)


class OnnxNetwork(nn.Module):
    """Computes a graph's logits; its weights are constants, which fine-tuning cannot change.

    Args:
        graph: for its input, output and shapes.
        steps: the nodes that depend on the images, in order.
        constants: the tensors that these need.
    """

    graph_sha256: Tensor

    def __init__(self, graph: Graph, steps: Iterable[Step], constants: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.image_shape = graph.image_shape
        self._input, self._output = graph.input, graph.output
        self._places: dict[str, tuple[str, torch.Size]] = {}
        self._numbers: dict[str, Tensor] = {}
        # Weights alone do not tell two networks apart, so the state has the digest of the graph, too.
        self.register_buffer("graph_sha256", torch.tensor(list(bytes.fromhex(graph.sha256)), dtype=torch.uint8))
        for number, (name, tensor) in enumerate(constants.items()):
            if not tensor.is_floating_point() and tensor.numel() <= _FEW:
                self._numbers[name] = tensor
                continue
            place = f"constant_{number:05d}"
            # `Module.to` has no channels-last layout for tensors of more than four dimensions.
            stored = tensor.flatten() if tensor.ndim > 4 else tensor
            if tensor.is_floating_point():
                self.register_parameter(place, nn.Parameter(stored, requires_grad=False))
            else:
                self.register_buffer(place, stored)
            self._places[name] = place, tensor.shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of normalised images. Raises: ValueError for images of another shape."""
        if x.shape[1:] != self.image_shape:
            raise ValueError(f"the ONNX file takes images of {' × '.join(map(str, self.image_shape))}")
        values = {self._input: x, **self._numbers}
        for name, (place, shape) in self._places.items():
            tensor: Tensor = getattr(self, place)
            values[name] = tensor if tensor.ndim == len(shape) else tensor.view(shape)
        steps: Iterable[Step] = self.steps  # type: ignore[assignment]  # a ModuleList of them
        for step in steps:
            node = step.node
            outputs = step([values[name] if name else None for name in node.inputs], x.dtype)
            values.update(zip(node.outputs, _as_tuple(outputs), strict=False))
            for name in step.last_uses:
                del values[name]
        return values[self._output]


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a single output as a tuple, too."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def build_network(graph: Graph) -> OnnxNetwork:
    """Return the graph as a module of torch.

    Nodes that do not depend on the images are computed here. Every node is first tried on tensors without memory, so that
    sizes are known before memory is taken.

    Raises: WeightsUnreadable for an operator, an attribute, a size or a graph that is not supported; OutOfMemory.
    """
    values: dict[str, Tensor] = dict(graph.constants)
    values[graph.input] = torch.empty(TRIAL_BATCH, *graph.image_shape, device="meta")
    dependent, read, steps = {graph.input}, set[str](), list[Step]()
    effort = Effort(graph.nodes, graph.output)
    with FlopCounterMode(display=False) as counter:
        for node in graph.nodes:
            step = Step(node, any_batch=graph.batch == 1)
            for name in node.inputs:
                if name and name not in values:
                    raise refuse_node(node, f"its input {name[:100]!r} is computed nowhere before it")
            if clash := next((name for name in node.outputs if name in values), None):
                raise refuse_node(node, f"its output {clash[:100]!r} exists already")
            outputs = _try(step, [values[name] if name else None for name in node.inputs], effort, counter)
            values.update(zip(node.outputs, outputs, strict=False))
            if dependent.intersection(node.inputs):
                dependent.update(node.outputs)
                read.update(name for name in node.inputs if name and name not in dependent)
                steps.append(step)
            for name in effort.release(node, read):
                values.pop(name, None)
    _check_output(graph, values.get(graph.output), is_dependent=graph.output in dependent)
    _set_last_uses(steps, dependent, graph.output)
    return OnnxNetwork(graph, steps, {name: values[name] for name in values if name in read})


def refuse_name(num_classes: int, channels: int) -> nn.Module:
    """Refuse to build a network by the name `onnx` alone. Raises: InvalidSpec, always."""
    raise InvalidSpec("The architecture onnx is a network that comes as an ONNX file. Pass the file.")


def _try(step: Step, inputs: list[Tensor | None], effort: Effort, counter: FlopCounterMode) -> tuple[Tensor, ...]:
    """Return the outputs: with values where all inputs have values, else without memory. Raises: as `build_network`."""
    try:
        require_few_numbers(step.node, inputs, step.numbers)
        with torch.no_grad(), torch.device("meta"):
            stripped = [_strip(one, place in step.numbers) for place, one in enumerate(inputs)]
            outputs = _as_tuple(step(stripped, torch.float32))
        effort.add(step.node, inputs, outputs, counter.get_total_flops())
        if not any(one is not None and one.is_meta for one in inputs) and any(one.is_meta for one in outputs):
            with torch.no_grad():
                outputs = _as_tuple(step(inputs, torch.float32))
            places = {one.untyped_storage().data_ptr() for one in inputs if one is not None}
            if all(one.untyped_storage().data_ptr() in places for one in outputs):
                effort.discount(step.node)
    except WeightsUnreadable:
        raise
    except Exception as error:  # a hostile graph can make torch raise anything
        require_memory(error, "to compute the constants of the ONNX file")
        depends_on_pixels = isinstance(error, NotImplementedError) and "meta" in str(error)
        reason = "a size depends on pixels" if depends_on_pixels else f"torch says: {str(error)[:300]}"
        raise refuse_node(step.node, reason) from error
    return outputs


def _strip(value: Tensor | None, is_number: bool) -> Tensor | None:
    """Return the tensor without memory; numbers keep their values."""
    return value if value is None or is_number else value.to("meta")


def _check_output(graph: Graph, output: Tensor | None, *, is_dependent: bool) -> None:
    """Check that the output is one row of logits an image. Raises: WeightsUnreadable."""
    if output is None or not is_dependent:
        raise WeightsUnreadable(f"The output {graph.output[:100]!r} of the ONNX file does not depend on its input.")
    if output.ndim != 2 or output.shape[0] != TRIAL_BATCH or output.dtype is not torch.float32:
        shape = " × ".join(map(str, output.shape))
        raise WeightsUnreadable(
            f"The ONNX file's output for {TRIAL_BATCH} images is {shape} of {str(output.dtype).removeprefix('torch.')}. It must "
            "be one row of float32 logits for each image."
        )


def _set_last_uses(steps: Sequence[Step], dependent: set[str], output: str) -> None:
    """Let each step forget the results that no later step reads."""
    kept = {output}
    for step in reversed(steps):
        names = [name for name in {*step.node.inputs, *step.node.outputs} if name in dependent and name not in kept]
        step.last_uses = tuple(sorted(names))
        kept.update(names)
