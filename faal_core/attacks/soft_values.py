"""Remember a gradient for tensors that can have none: truth values, whole numbers and indices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_TINY = 1e-12  # keeps divisors positive
_NOT = frozenset({"bitwise_not", "logical_not", "invert"})
_AND = frozenset({"bitwise_and", "logical_and", "and", "iand"})
_OR = frozenset({"bitwise_or", "logical_or", "or", "ior"})


class Call(NamedTuple):
    """Describes a call of a function of torch: `name` is the function's name without underscores."""

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:  # noqa: ANN401 - whatever the function returns
        """Return the function's own result."""
        return self.func(*self.args, **self.kwargs)


class _Choice(NamedTuple):
    """Describes indices of the largest values along one dimension: for each value, how much of it is chosen, softened."""

    weights: Tensor
    dim: int


def only_gradient(soft: Tensor) -> Tensor:
    """Return zeros that have the gradient of `soft`."""
    return soft - soft.detach()


def pass_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of `hard` with the gradient of `soft`."""
    return hard.detach() + only_gradient(soft).to(hard.dtype)


def soft_step(difference: Tensor) -> Tensor:
    """Return the sigmoid of each difference over its image's mean distance from 0; the first dimension counts images."""
    return (difference / _measure_width(difference)).sigmoid()


def _measure_width(difference: Tensor) -> Tensor:
    distance = difference.detach().abs()
    if not distance.ndim:
        return distance.clamp_min(_TINY)
    return distance.reshape(len(distance), -1).mean(1).reshape(-1, *[1] * (distance.ndim - 1)).clamp_min(_TINY)


class SoftValues:
    """Remembers float tensors with a gradient, one for each tensor of truth values or whole numbers that has none itself.

    Each method takes a call, and returns the function's own values.
    """

    def __init__(self) -> None:
        self._values = WeakTensorKeyDictionary()
        self._choices = WeakTensorKeyDictionary()

    def knows_any(self, args: tuple[Any, ...]) -> bool:
        """Return whether a gradient is remembered for an argument, or for a member of one that is a list or tuple."""
        flat = [one for arg in args for one in (arg if isinstance(arg, tuple | list) else (arg,))]
        return any(isinstance(one, Tensor) and (one in self._values or one in self._choices) for one in flat)

    def compare(self, call: Call, *, rises: bool) -> Any:  # noqa: ANN401 - a tensor
        """Compare; the gradient is that of a sigmoid of the difference."""
        result = call.run()
        if any(self._is_soft(arg) for arg in call.args[:2]):
            one, other = (self._to_float(arg) for arg in call.args[:2])
            self._values[result] = soft_step(one - other if rises else other - one)
        return result

    def locate(self, call: Call) -> Any:  # noqa: ANN401 - a tensor
        """Find the intervals between sorted boundaries that hold the values; the gradient is that of a straight line."""
        result = call.run()
        boundaries, values = call.args[:2] if call.name == "searchsorted" else call.args[1::-1]
        if self._is_soft(values) and boundaries.numel() > 1:
            width = (boundaries.detach().amax() - boundaries.detach().amin()).clamp_min(_TINY)
            self._values[result] = values * ((boundaries.shape[-1] - 1) / width)
        return result

    def cast(self, call: Call) -> Any:  # noqa: ANN401 - a tensor
        """Change the type; the gradient is that of the identity."""
        first, result = call.args[0], call.run()
        if result is first or (first.is_floating_point() and result.is_floating_point()):
            return result
        if first in self._choices:
            self._choices[result] = self._choices[first]
        if self._is_soft(first):
            soft = first if first.is_floating_point() else self._values[first]
            if result.is_floating_point():
                return pass_through(result, soft)
            self._values[result] = soft_step(soft.abs()) if result.dtype == torch.bool and soft is first else soft
        return result

    def choose(self, call: Call) -> Any:  # noqa: ANN401 - a tensor, or values and indices
        """Find the largest values; where their indices mark or select places, the gradient is that of a softened choice."""
        result, values, is_many = call.run(), call.args[0], call.name == "topk"
        place = 2 if is_many else 1
        dim = call.kwargs.get("dim", call.args[place] if len(call.args) > place else -1 if is_many else None)
        if dim is None or not values.is_floating_point() or not values.requires_grad:
            return result
        indices = result.indices if is_many else result
        if is_many:
            weights = soft_step(values - values.gather(dim, indices).amin(dim, keepdim=True))
            weights = weights * (indices.shape[dim] / weights.sum(dim, keepdim=True))  # as many as there are indices
        else:
            signed = values if call.name == "argmax" else -values
            weights = (signed / _measure_width(signed - signed.amax(dim, keepdim=True))).softmax(dim)
        self._choices[indices] = _Choice(weights, dim % values.ndim)
        return result

    def use(self, call: Call) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call another function with remembered gradients."""
        choice = next(
            (self._choices[one] for one in call.args if isinstance(one, Tensor) and one in self._choices), None
        )
        if choice is not None:
            return self._use_choice(call, choice)
        if call.name == "where" and len(call.args) == 3:
            mask, one, other = call.args
            return call.run() + only_gradient(self._to_float(mask)) * _finite(one - other)
        if call.name == "masked_fill":
            filled, mask, value = call.args
            return call.run() + only_gradient(self._to_float(mask)) * _finite(value - filled)
        if call.name == "getitem":
            return self._look_up(call)
        result, soft = call.run(), self._run_on_floats(call)
        if isinstance(result, Tensor) and isinstance(soft, Tensor) and soft.requires_grad:
            if result.is_floating_point():
                return pass_through(result, soft)
            self._values[result] = soft
        return result

    def _use_choice(self, call: Call, choice: _Choice) -> Any:  # noqa: ANN401 - as above
        """Mark chosen places, select them from a table, or encode them."""
        result, args = call.run(), call.args
        weights = choice.weights.movedim(choice.dim, -1)
        if call.name == "scatter" and result.shape == choice.weights.shape:
            return result + only_gradient(choice.weights) * (1.0 if isinstance(args[3], Tensor) else args[3])
        if call.name == "one_hot" and result.shape == weights.shape:
            self._values[result] = weights
        if call.name == "getitem" and args[0].is_floating_point() and args[0].shape == weights.shape[-1:]:
            return result + only_gradient(weights @ args[0].detach()).reshape(result.shape)
        return result

    def _look_up(self, call: Call) -> Any:  # noqa: ANN401 - as above
        """Select entries of a table; the gradient is the difference of two neighbours. Other selections have none."""
        table, index = call.args
        result, soft = call.run(), self._values.get(index) if isinstance(index, Tensor) else None
        if (
            soft is None
            or index.dtype == torch.bool
            or not table.is_floating_point()
            or table.ndim > 1
            or len(table) < 2
        ):
            return result
        slopes = table.detach().diff()
        return result + only_gradient(soft) * slopes[index.clamp(0, len(slopes) - 1)]

    def _run_on_floats(self, call: Call) -> Any:  # noqa: ANN401 - as above
        """Return the function of float tensors; None where it takes none."""
        floats: tuple[Any, ...] = tuple(
            [self._to_float(one) for one in arg] if isinstance(arg, tuple | list) else self._to_float(arg)
            for arg in call.args
        )
        if call.name in _NOT:
            return 1 - floats[0]
        if call.name in _AND:
            return floats[0] * floats[1]
        if call.name in _OR:
            return 1 - (1 - floats[0]) * (1 - floats[1])
        try:
            return call.func(*floats, **call.kwargs)
        except (RuntimeError, TypeError, IndexError):
            return None

    def _is_soft(self, value: Any) -> bool:  # noqa: ANN401 - any argument
        return isinstance(value, Tensor) and (value.requires_grad or value in self._values)

    def _to_float(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Return the value, a tensor of truth values or whole numbers as floats with their gradient where one is remembered."""
        soft = self._values.get(value) if isinstance(value, Tensor) else None
        return value if soft is None else pass_through(value.to(soft.dtype), soft)


def _finite(difference: Any) -> Tensor:  # noqa: ANN401 - a tensor or a number
    return torch.as_tensor(difference).detach().nan_to_num(0.0, 0.0, 0.0)
