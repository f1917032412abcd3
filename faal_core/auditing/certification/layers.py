"""Define the layers that can be bounded: each maps intervals forward, and linear functions of its output back to its input.

`graph` finds layers in a network, and `bounds` connects them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

ROUNDING = 4e-6
"""Largest relative error of a sum of float32 products, in multiples of the sum of their magnitudes."""


class Box(NamedTuple):
    """Bounds each of a layer's values for each image, `n …`."""

    low: Tensor
    high: Tensor

    @property
    def magnitude(self) -> Tensor:
        """Return the largest absolute value of each entry, `n …`."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def select(self, images: slice) -> "Box":
        """Return the bounds of some images."""
        return Box(self.low[images], self.high[images])

    def widen(self, slack: Tensor) -> "Box":
        """Return bounds that are wider by `slack` on both sides."""
        return Box(self.low - slack, self.high + slack)

    def lower_bound(self, coefficients: Tensor) -> Tensor:
        """Return the least value in the box of each linear function, `n m`, for coefficients `n m …`."""
        centre, radius = (self.low + self.high) / 2, (self.high - self.low) / 2
        return apply_functions(coefficients, centre) - apply_functions(coefficients.abs(), radius)


def apply_functions(coefficients: Tensor, values: Tensor) -> Tensor:
    """Return the value of each linear function, `n m`, for coefficients `n m …` and values `n …` or `1 …`."""
    values = values.expand(len(coefficients), *coefficients.shape[2:])
    return torch.bmm(coefficients.flatten(2), values.flatten(1).unsqueeze(2)).squeeze(2)


class Pulled(NamedTuple):
    """Bounds linear functions of a layer's output from below by functions of its inputs plus constants.

    Args:
        coefficients: for each input, `n m …`; empty where the constant bounds the function alone.
        constant: one number per function, `n m`.
    """

    coefficients: tuple[Tensor, ...]
    constant: Tensor | float

    @property
    def magnitude(self) -> Tensor | float:
        """Return the absolute value of the constants."""
        return self.constant.abs() if isinstance(self.constant, Tensor) else abs(self.constant)


class Layer(Protocol):
    """Represents one operation of a network."""

    @property
    def is_affine(self) -> bool:
        """Return whether the output is an affine function of the inputs, so that `pull` is exact."""

    def bound(self, *inputs: Box) -> Box:
        """Return the bounds of the output for inputs within their bounds."""

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Bound linear functions of the output from below: `m` functions, with coefficients `n m …`, for each of `n` images."""


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Represents a linear layer or a convolution.

    Args:
        apply: returns the layer's output without bias for a batch and a weight.
        transpose: returns the product of the transposed layer with coefficients, for the shape of one input.
        bias: in a shape that can be added to the output.
    """

    weight: Tensor
    bias: Tensor
    apply: Callable[[Tensor, Tensor], Tensor]
    transpose: Callable[[Tensor, Tensor, torch.Size], Tensor]
    is_affine: bool = True

    def bound(self, *inputs: Box) -> Box:
        """Return centre ± radius: the radius, with the rounding errors of the centre, passes through the absolute weights."""
        (box,) = inputs
        middle = (box.low + box.high) / 2
        centre = self.apply(middle, self.weight) + self.bias
        radius = self.apply((box.high - box.low) / 2 + ROUNDING * box.magnitude, self.weight.abs())
        return Box(centre, centre).widen(radius + ROUNDING * self.bias.abs())

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Multiply by the transposed weights."""
        shape = inputs[0].low.shape[1:]
        pulled = self.transpose(coefficients.flatten(0, 1), self.weight, shape)
        bias = self.bias.expand(1, *coefficients.shape[2:])
        return Pulled((pulled.view(*coefficients.shape[:2], *shape),), apply_functions(coefficients, bias))


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Multiplies by a scale and adds a shift, as a normalisation does; both broadcast over the values."""

    scale: Tensor
    shift: Tensor
    is_affine: bool = True

    def bound(self, *inputs: Box) -> Box:
        """Return the bounds in their order, which a negative scale reverses. Raises: ValueError where values are repeated."""
        (box,) = inputs
        low, high = box.low * self.scale + self.shift, box.high * self.scale + self.shift
        if low.shape != box.low.shape:
            raise ValueError(f"a scale makes values of shape {tuple(low.shape)} of {tuple(box.low.shape)}")
        slack = ROUNDING * (box.magnitude * self.scale.abs() + self.shift.abs())
        return Box(torch.minimum(low, high), torch.maximum(low, high)).widen(slack)

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Multiply by the scale."""
        shift = self.shift.expand(1, *coefficients.shape[2:])
        return Pulled((coefficients * self.scale,), apply_functions(coefficients, shift))


@dataclass(frozen=True, slots=True, eq=False)
class Averaged:
    """Represents a linear operation with weights of at least 0: a mean, an average pool, or another shape of the same values."""

    apply: Callable[[Tensor], Tensor]
    is_affine: bool = True

    def bound(self, *inputs: Box) -> Box:
        """Apply the layer to both bounds."""
        (box,) = inputs
        return Box(self.apply(box.low), self.apply(box.high)).widen(ROUNDING * self.apply(box.magnitude))

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Multiply by the transposed layer, which is its gradient."""
        with torch.enable_grad():
            shape = (*coefficients.shape[:2], *inputs[0].low.shape[1:])
            values = inputs[0].low.new_zeros(shape).flatten(0, 1).requires_grad_()
            (pulled,) = torch.autograd.grad(self.apply(values), values, coefficients.flatten(0, 1))
        return Pulled((pulled.view(shape),), 0.0)


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds two inputs of one shape."""

    is_affine: bool = True

    def bound(self, *inputs: Box) -> Box:
        """Add the bounds. Raises: ValueError where one input is repeated to the shape of the other: `pull` would be wrong."""
        first, second = inputs
        if first.low.shape != second.low.shape:
            raise ValueError(f"a sum of shapes {tuple(first.low.shape)} and {tuple(second.low.shape)} has no bounds")
        slack = ROUNDING * (first.magnitude + second.magnitude)
        return Box(first.low + second.low, first.high + second.high).widen(slack)

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Give both inputs the coefficients of the sum."""
        return Pulled((coefficients, coefficients), 0.0)


@dataclass(frozen=True, slots=True)
class Rectified:
    """Represents a ReLU, or a leaky ReLU with a slope in [0, 1] for negative values.

    Source: the relaxation of CROWN (Zhang et al. 2018, arXiv 1811.00866), section 3, with its adaptive lower line.
    """

    slope: float = 0.0
    is_affine: bool = False

    def bound(self, *inputs: Box) -> Box:
        """Return both bounds, rectified."""
        (box,) = inputs
        return Box(functional.leaky_relu(box.low, self.slope), functional.leaky_relu(box.high, self.slope))

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Replace the function by a line below it where the coefficient is positive, and by the line above it elsewhere."""
        (box,) = inputs
        unstable = (box.low < 0) & (box.high > 0)
        stable = torch.where(box.low >= 0, 1.0, self.slope).to(box.low.dtype)
        width = torch.where(unstable, box.high - box.low, 1)
        above = torch.where(unstable, (output.high - output.low) / width, stable)
        intercept = torch.where(unstable, output.high - above * box.high, 0)
        below = torch.where(unstable & (box.high > -box.low), 1.0, torch.where(unstable, self.slope, stable))
        lines = torch.where(coefficients > 0, below.unsqueeze(1), above.unsqueeze(1))
        return Pulled((lines.mul_(coefficients),), apply_functions(coefficients.clamp_max(0), intercept))


@dataclass(frozen=True, slots=True, eq=False)
class Largest:
    """Represents a max pool: linear functions of it are bounded by the interval of each of its values."""

    apply: Callable[[Tensor], Tensor]
    is_affine: bool = False

    def bound(self, *inputs: Box) -> Box:
        """Apply the layer to both bounds."""
        (box,) = inputs
        return Box(self.apply(box.low), self.apply(box.high))

    def pull(self, coefficients: Tensor, output: Box, inputs: tuple[Box, ...]) -> Pulled:
        """Bound the functions by constants."""
        return Pulled((), output.lower_bound(coefficients))
