"""Layers of ONNX that normalise, in eval mode."""

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.networks.onnx.table import UnsupportedNode, define, normalise_axis


@define("BatchNormalization")
def _batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    if training_mode:
        raise UnsupportedNode("training_mode 1; export the network in eval mode: network.eval()")
    # torch 2.13's batch_norm, which its instance_norm calls, returns wrong input gradients on a CPU for one image in some
    # layouts, such as in timm's XCiT.
    factor = scale * torch.rsqrt(variance + epsilon)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return torch.addcmul((bias - mean * factor).view(shape), x, factor.view(shape))


@define("Dropout", 1, 2)
def _dropout(x: Tensor, ratio: float = 0.5, training_mode: bool = False, *, seed: int = 0) -> Tensor:
    if training_mode:
        raise UnsupportedNode("training_mode true; export the network in eval mode: network.eval()")
    return x


@define("GroupNormalization")
def _group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    if scale.shape != x.shape[1:2]:
        raise UnsupportedNode("a scale per group; export with opset_version=21")
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


@define("InstanceNormalization")
def _instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    variance, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=0, keepdim=True)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return (x - mean) * torch.rsqrt(variance + epsilon) * scale.view(shape) + bias.view(shape)


@define("LayerNormalization")
def _layer_normalization(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    shape = x.shape[normalise_axis(axis, x.ndim) :]
    return functional.layer_norm(x, shape, scale.expand(shape), None if bias is None else bias.expand(shape), epsilon)


@define("LogSoftmax")
def _log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, axis)


@define("RMSNormalization")
def _rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    shape = x.shape[normalise_axis(axis, x.ndim) :]
    return functional.rms_norm(x, shape, scale.expand(shape), epsilon)


@define("Softmax")
def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)
