"""Operators of ONNX that compute element by element, reductions and products of matrices."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.networks.onnx.table import DTYPES, FLOAT, OPERATORS, Ints, Operator, UnsupportedNode, define
from faal_core.networks.onnx.windows import average_pool, convolve, max_pool

_PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "CastLike": lambda x, like: x.to(like.dtype),
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": lambda *values: reduce(torch.maximum, values),
    "Mean": lambda *values: reduce(torch.add, values) / len(values),
    "Min": lambda *values: reduce(torch.minimum, values),
    "Mish": functional.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Pow": lambda base, exponent: torch.pow(base, exponent).to(base.dtype),
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Size": lambda x: torch.tensor(x.numel(), device="cpu"),
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": lambda *values: reduce(torch.add, values),
    "Tanh": torch.tanh,
    "Where": torch.where,
}
OPERATORS |= {name: Operator(function) for name, function in _PLAIN.items()}
for _windowed, _function in {"AveragePool": average_pool, "Conv": convolve, "MaxPool": max_pool}.items():
    define(_windowed)(_function)  # type: ignore[arg-type]  # functions of several signatures


@define("Cast")
def _cast(x: Tensor, *, to: int, precision: torch.dtype, saturate: int = 1) -> Tensor:
    if to not in DTYPES:
        raise UnsupportedNode(f"type {to} of TensorProto.DataType")
    return x.to(precision if to == FLOAT else DTYPES[to])


@define("Celu")
def _celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.celu(x, alpha)


@define("Clip")
def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


@define("Div")
def _div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


@define("Einsum")
def _einsum(*values: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *values)


@define("Elu")
def _elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.elu(x, alpha)


@define("Gelu")
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


@define("Gemm")
def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    product = (a.t() if transA else a) @ (b.t() if transB else b)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


@define("HardSigmoid")
def _hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@define("LeakyRelu")
def _leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return functional.leaky_relu(x, alpha)


@define("Mod")
def _mod(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(x, y) if fmod else torch.remainder(x, y)


def _define_reduction(name: str, reduce_axes: Callable[..., Tensor]) -> None:
    """Add the operator `name` that applies `reduce_axes(x, axes, keepdim)`."""

    def reduction(
        x: Tensor,
        axes: Ints | None = None,
        *,
        axes_: Ints | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        axes = axes_ if axes is None else axes
        if not axes and noop_with_empty_axes:
            return x
        return reduce_axes(x, tuple(axes or range(x.ndim)), bool(keepdims))

    define(name, 1)(reduction)


for _reduction, _reduce_axes in {
    "ReduceL2": lambda x, axes, keepdim: torch.linalg.vector_norm(x, dim=axes, keepdim=keepdim),
    "ReduceMax": lambda x, axes, keepdim: x.amax(axes, keepdim),
    "ReduceMean": lambda x, axes, keepdim: x.mean(axes, keepdim),
    "ReduceMin": lambda x, axes, keepdim: x.amin(axes, keepdim),
    "ReduceSum": lambda x, axes, keepdim: x.sum(axes, keepdim),
    "ReduceSumSquare": lambda x, axes, keepdim: x.square().sum(axes, keepdim),
}.items():
    _define_reduction(_reduction, _reduce_axes)


@define("Selu")
def _selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0)))
