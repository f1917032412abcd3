"""Find the layers of a network that bounds are known for: trace it, and translate each operation."""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from faal_core.auditing.certification.layers import Averaged, Largest, Layer, Rectified, Scaled, Sum, Weighted
from faal_core.classifier import Classifier

_NORMALISATIONS = nn.BatchNorm2d | nn.BatchNorm1d


@dataclass(frozen=True, slots=True)
class Step:
    """Applies a layer to the outputs of earlier steps; step −1 is the image."""

    layer: Layer
    inputs: tuple[int, ...]


class _Unknown(Exception):
    """Stops the translation at an operation without bounds."""


def trace(classifier: Classifier) -> tuple[Step, ...]:
    """Return the steps from an image with pixels in [0, 1] to its logits, on the CPU.

    There are none where an operation is unknown, or where the network computes in another precision than float32.

    The network may be code of its own, which may raise anything when it is traced. That it computes what the trace says must
    be checked on images: values that do not depend on the input are constants of the trace.
    """
    values = (*classifier.backbone.parameters(), *classifier.backbone.buffers())
    if any(value.is_floating_point() and value.dtype is not torch.float32 for value in values):
        return ()
    try:
        network = copy.deepcopy(classifier.backbone).cpu().eval()
        graph = fx.Tracer().trace(network)
        scale = (1 / classifier.std[0]).cpu()
        normalisation = Scaled(scale, -classifier.mean[0].cpu() * scale)
        return _translate(graph, network, normalisation)
    except Exception:  # noqa: BLE001 - whatever the network's code raises, it cannot be certified
        return ()


def _translate(graph: fx.Graph, network: nn.Module, normalisation: Scaled) -> tuple[Step, ...]:
    """Return the steps of the graph after the normalisation. Raises: _Unknown."""
    steps, places = [Step(normalisation, (-1,))], dict[fx.Node, int]()
    for node in graph.nodes:
        if node.op == "placeholder":
            if places:
                raise _Unknown
            places[node] = 0
        elif node.op == "output":
            if places.get(node.args[0]) != len(steps) - 1:
                raise _Unknown
            return tuple(steps)
        elif not _is_shape(node):
            layer = _find_layer(node, network)
            if layer is None:
                places[node] = places[node.args[0]]
                continue
            sources = node.args[:2] if isinstance(layer, Sum) else node.args[:1]
            steps.append(Step(layer, tuple(places[source] for source in sources)))
            places[node] = len(steps) - 1
    raise _Unknown


def _is_shape(node: fx.Node) -> bool:
    """Return whether the node reads the size of a tensor, such as that of the batch, or an entry of it."""
    if node.op == "call_method":
        return node.target == "size"
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and _is_shape(node.args[0])
    return node.target is getattr and node.args[1] == "shape"


def _find_layer(node: fx.Node, network: nn.Module) -> Layer | None:
    """Return the layer of a node; None for one that changes nothing. Raises: _Unknown."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001 - torch has no public name for them
            raise _Unknown
        return _translate_module(module)
    translate = _FUNCTIONS.get(node.target)
    if translate is None:
        raise _Unknown
    return translate(*node.args[1:], **node.kwargs)


def _translate_module(module: nn.Module) -> Layer | None:
    """Return the layer of a module of torch; a subclass may compute anything. Raises: _Unknown."""
    kind = type(module)
    if kind in (nn.Identity, nn.Dropout, nn.Dropout2d):
        return None
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        assert isinstance(module, _NORMALISATIONS)  # noqa: S101
        return _translate_normalisation(module)
    if kind not in _MODULES:
        raise _Unknown
    return _MODULES[kind](module)


def _translate_convolution(module: Any) -> Layer:  # noqa: ANN401 - one function per type of module
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise _Unknown
    options = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}

    def transpose(coefficients: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        rows, kernel = (part.contiguous(memory_format=torch.channels_last) for part in (coefficients, weight))
        return conv2d_input((len(rows), *shape), kernel, rows, **options)  # channels-last is faster on a CPU

    return Weighted(
        module.weight.detach(), _bias(module).view(-1, 1, 1), partial(functional.conv2d, **options), transpose
    )


def _translate_linear(module: Any) -> Layer:  # noqa: ANN401
    return Weighted(
        module.weight.detach(), _bias(module), functional.linear, lambda coefficients, weight, _: coefficients @ weight
    )


def _bias(module: Any) -> Tensor:  # noqa: ANN401
    """Return the bias of a layer; zeros where it has none."""
    return module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias.detach()


def _translate_normalisation(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
    if module.running_mean is None or module.running_var is None:
        raise _Unknown
    scale = (module.running_var + module.eps).rsqrt()
    scale = scale if module.weight is None else scale * module.weight.detach()
    shift = -module.running_mean * scale + (0 if module.bias is None else module.bias.detach())
    shape = (-1, 1, 1) if isinstance(module, nn.BatchNorm2d) else (-1,)
    return Scaled(scale.view(shape), shift.view(shape))


def _average(kernel_size: Any, stride: Any = None, padding: Any = 0, **others: Any) -> Layer:  # noqa: ANN401
    return Averaged(partial(functional.avg_pool2d, kernel_size=kernel_size, stride=stride, padding=padding, **others))


def _maximum(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **others: Any) -> Layer:  # noqa: ANN401
    return Largest(
        partial(
            functional.max_pool2d, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, **others
        )
    )


def _rectify(slope: float = 0.0, inplace: bool = False) -> Layer:
    if not 0 <= slope <= 1:
        raise _Unknown
    return Rectified(slope)


def _leak(negative_slope: float = 0.01, inplace: bool = False) -> Layer:
    return _rectify(negative_slope)


def _relu(inplace: bool = False) -> Layer:
    return _rectify()


def _flatten(start_dim: int = 0, end_dim: int = -1) -> Layer:
    if (start_dim, end_dim) != (1, -1):
        raise _Unknown
    return Averaged(partial(torch.flatten, start_dim=1))


def _reshape(*shape: Any) -> Layer:  # noqa: ANN401
    if len(shape) != 2:
        raise _Unknown
    return _flatten(1)


def _mean(dim: Any, keepdim: bool = False) -> Layer:  # noqa: ANN401
    if sorted([dim] if isinstance(dim, int) else dim) not in ([2, 3], [-2, -1]):
        raise _Unknown
    return Averaged(partial(torch.mean, dim=(2, 3), keepdim=keepdim))


def _add(other: Any) -> Layer:  # noqa: ANN401
    if not isinstance(other, fx.Node):
        raise _Unknown
    return Sum()


def _adapt(output_size: Any) -> Layer:  # noqa: ANN401
    return Averaged(partial(functional.adaptive_avg_pool2d, output_size=output_size))


_MODULES: dict[type[nn.Module], Callable[[Any], Layer]] = {
    nn.Conv2d: _translate_convolution,
    nn.Linear: _translate_linear,
    nn.ReLU: lambda _: _relu(),
    nn.LeakyReLU: lambda module: _leak(module.negative_slope),
    nn.Flatten: lambda module: _flatten(module.start_dim, module.end_dim),
    nn.AvgPool2d: lambda module: _average(
        module.kernel_size,
        module.stride,
        module.padding,
        ceil_mode=module.ceil_mode,
        count_include_pad=module.count_include_pad,
        divisor_override=module.divisor_override,
    ),
    nn.AdaptiveAvgPool2d: lambda module: _adapt(module.output_size),
    nn.MaxPool2d: lambda module: _maximum(
        module.kernel_size, module.stride, module.padding, module.dilation, ceil_mode=module.ceil_mode
    ),
}

_FUNCTIONS: dict[object, Callable[..., Layer]] = {
    torch.relu: _relu,
    functional.relu: _relu,
    functional.leaky_relu: _leak,
    "relu": _relu,
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _reshape,
    "reshape": _reshape,
    "mean": _mean,
    torch.mean: _mean,
    operator.add: _add,
    torch.add: _add,
    operator.iadd: _add,
    functional.avg_pool2d: _average,
    functional.adaptive_avg_pool2d: _adapt,
    functional.max_pool2d: _maximum,
}
