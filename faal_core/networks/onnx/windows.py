"""ONNX's operators with a sliding window, Conv, MaxPool and AveragePool, with torch's functions."""

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.networks.onnx.table import Ints


def _find_pads(
    sizes: Ints, kernel: Ints, strides: Ints, dilations: Ints, auto_pad: str, pads: Ints | None
) -> tuple[list[int], list[int]]:
    """Return the padding before and after each spatial axis."""
    rank = len(kernel)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
            for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    if auto_pad == "VALID" or not pads:
        return [0] * rank, [0] * rank
    return list(pads[:rank]), list(pads[rank:])


def _pad(x: Tensor, before: Ints, after: Ints, value: float) -> Tensor:
    """Return `x` with the spatial axes padded."""
    pairs = zip(reversed(before), reversed(after), strict=True)
    return functional.pad(x, [one for pair in pairs for one in pair], value=value)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Return the convolution of one, two or three spatial axes."""
    kernel = weight.shape[2:]
    ones = [1] * len(kernel)
    strides, dilations = strides or ones, dilations or ones
    before, after = _find_pads(x.shape[2:], kernel, strides, dilations, auto_pad, pads)
    if before != after:
        x, before = _pad(x, before, after, 0.0), [0] * len(kernel)
    function = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[len(kernel)]
    return function(x, weight, bias, tuple(strides), tuple(before), tuple(dilations), group)


def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    kernel_shape: Ints,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> Tensor:
    """Return the maximum of each window; padding never wins."""
    ones = [1] * len(kernel_shape)
    strides, dilations = strides or ones, dilations or ones
    before, after = _find_pads(x.shape[2:], kernel_shape, strides, dilations, auto_pad, pads)
    if before != after or any(2 * pad > length for pad, length in zip(before, kernel_shape, strict=True)):
        x, before = _pad(x, before, after, -torch.inf), [0] * len(kernel_shape)
    function = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[len(kernel_shape)]
    return function(x, tuple(kernel_shape), tuple(strides), tuple(before), tuple(dilations), bool(ceil_mode))


def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Ints,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Return the mean of each window, with padding counted where `count_include_pad` says so."""
    ones = [1] * len(kernel_shape)
    strides = strides or ones
    before, after = _find_pads(x.shape[2:], kernel_shape, strides, ones, auto_pad, pads)
    function = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(kernel_shape)]
    window = tuple(kernel_shape), tuple(strides)
    if before == after and not any(2 * pad > length for pad, length in zip(before, kernel_shape, strict=True)):
        return function(x, *window, tuple(before), bool(ceil_mode), bool(count_include_pad))
    means = function(_pad(x, before, after, 0.0), *window, 0, bool(ceil_mode))
    if count_include_pad:
        return means
    return means / function(_pad(torch.ones_like(x[:1, :1]), before, after, 0.0), *window, 0, bool(ceil_mode))
