"""Give a network usable gradients where it has none: at thresholds, roundings and choices, and where it records no graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from faal_core.attacks.soft_values import Call, SoftValues, pass_through, soft_step
from faal_core.classifier import Classifier, Images, Logits
from faal_core.errors.memory_exhaustion import is_out_of_memory

_ROUNDINGS = frozenset({"round", "floor", "ceil", "trunc", "fix"})
_SIGNS = frozenset({"sign", "sgn", "heaviside"})
_REMAINDERS = frozenset({"remainder", "fmod", "frac", "mod"})
_QUOTIENTS = frozenset({"div", "divide", "floor_divide", "floordiv"})
_RISING = frozenset({"gt", "ge", "greater", "greater_equal"})
_FALLING = frozenset({"lt", "le", "less", "less_equal"})
_SEARCHES = frozenset({"bucketize", "searchsorted"})
_CHOICES = frozenset({"topk", "argmax", "argmin"})
_CASTS = frozenset(
    {"to", "type", "type_as", "float", "double", "half", "bfloat16", "int", "long", "short", "byte", "char", "bool"}
)
_UNTRACKED = frozenset({"detach", "requires_grad"})  # methods that return their tensor outside of the graph
_EXPORTS = frozenset({"numpy", "array", "tolist"})  # methods that leave torch, and refuse tensors of the graph
_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined] # reads the attribute `data`


class SurrogateGradients(TorchFunctionMode):
    """Compute a network's own outputs within the context, and surrogate gradients.

    - A rounding and a cast to whole numbers have the gradient of the identity; a remainder has none.
    - A comparison, a sign and the choice of the largest values have that of a sigmoid around the threshold. Its width is the
      mean distance from the threshold, so that most values have a gradient.
    - `detach`, `no_grad` and `inference_mode` have no effect, except on tensors that leave torch.

    Source: Athalye, Carlini and Wagner 2018, section 4.1 (backward pass differentiable approximation). Differs: functions of
        torch are replaced while the network computes, so that nobody needs to know where it uses them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._soft = SoftValues()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever a function of torch returns
        """Return what `func` returns, in the graph of its gradient."""
        name = getattr(func, "__name__", "")
        call = Call(func, name.strip("_"), tuple(args), dict(kwargs or {}))
        with torch.inference_mode(mode=False), torch.enable_grad():
            result = self._replace(call)
            if result is NotImplemented:
                return call.run()
            if name.endswith("_") and not name.endswith("__") and result is not args[0]:
                return args[0].copy_(result)
            return result

    def _replace(self, call: Call) -> Any:  # noqa: ANN401 - as above
        """Return the result with a surrogate gradient; NotImplemented where the function keeps its own."""
        name, soft = call.name, self._soft
        first = call.args[0] if call.args and isinstance(call.args[0], Tensor) else None
        result: Any = NotImplemented
        if first is None:
            pass
        elif name in _UNTRACKED or call.func == _DATA:
            result = first
        elif name in _EXPORTS:
            result = call._replace(args=(first.detach(), *call.args[1:])).run()
        elif name in _RISING | _FALLING:
            result = soft.compare(call, rises=name in _RISING)
        elif name in _CASTS:
            result = soft.cast(call)
        elif name in _SEARCHES:
            result = soft.locate(call)
        elif name in _CHOICES:
            result = soft.choose(call)
        elif name == "setitem" and soft.knows_any(call.args[1:2]):
            value = torch.as_tensor(call.args[2], dtype=first.dtype, device=first.device)
            first.copy_(soft.use(Call(torch.where, "where", (call.args[1], value, first), {})))
            result = None
        elif soft.knows_any(call.args):
            result = soft.use(call._replace(func=_out_of_place(call)))
        elif first.is_floating_point():
            result = _replace_step(call, first)
        return result


def _out_of_place(call: Call) -> Callable[..., Any]:
    """Return the function that returns a new tensor instead of changing its first argument."""
    name = getattr(call.func, "__name__", "")
    is_in_place = name.endswith("_") and not name.endswith("__")
    return getattr(torch.Tensor, name.rstrip("_"), call.func) if is_in_place else call.func


def _replace_step(call: Call, x: Tensor) -> Any:  # noqa: ANN401 - a tensor or NotImplemented
    """Return the values of a step function, and the gradient of a smooth one; NotImplemented for another function."""
    name = call.name
    if not (
        name in _ROUNDINGS | _SIGNS | _REMAINDERS
        or (name in _QUOTIENTS and ("floor" in name or call.kwargs.get("rounding_mode")))
    ):
        return NotImplemented
    hard = call._replace(args=(x.detach().clone(), *call.args[1:])).run().detach()
    if name in _REMAINDERS:
        return hard
    if name in _QUOTIENTS:
        return pass_through(hard, torch.true_divide(x, call.args[1]))
    return pass_through(hard, x if name in _ROUNDINGS else soft_step(x))


def surrogate_network(classifier: Classifier, x: Images) -> Callable[[Images], Logits]:
    """Return the classifier with surrogate gradients; the classifier itself if it cannot be computed with them.

    A gradient that is NaN or infinite is taken as 0.

    Args:
        x: images, of which the first is passed to see whether the classifier can be computed; this pass is not counted.
    """

    def compute(images: Images, network: Callable[[Images], Logits] = classifier) -> Logits:
        if not images.requires_grad:
            return network(images)
        watched = images.view_as(images)
        watched.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))
        with SurrogateGradients():
            return network(watched)

    probe = x[:1].detach().requires_grad_()
    try:
        logits = compute(probe, classifier.forward)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), probe, allow_unused=True)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        if isinstance(error, torch.AcceleratorError) or is_out_of_memory(error):
            raise
        return classifier
    return compute
