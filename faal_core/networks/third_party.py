"""Networks of torchvision and timm under their own names, always with random weights."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from faal_core.errors import InvalidSpec

_AUXILIARY_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Heads that take part in torchvision's training alone. Published files have them; no logit depends on them."""


class _OnCpu(TorchFunctionMode):
    """Creates tensors by some functions on the CPU: libraries read widths and rates from them, which the meta device lacks."""

    def __init__(self, *functions: Callable[..., Any]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the function's own
        """Call the function, on the CPU if it is one of them."""
        place = {"device": "cpu"} if func in self.functions else {}
        return func(*args, **{**(kwargs or {}), **place})


def torchvision_classifier(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return torchvision's network of that name; for other than three channels, the first convolution is replaced.

    Raises: InvalidSpec where the installed version has no such network.
    """
    from faal_core.torchvision_import import torchvision

    if variant not in torchvision.models.list_models(module=torchvision.models):
        raise _explain_absence("torchvision", variant)
    heads = _AUXILIARY_HEADS.get(variant)
    options = {"aux_logits": False, "init_weights": True} if heads else {}
    with _OnCpu(torch.arange, torch.tensor) if variant.startswith("regnet") else nullcontext():
        network: nn.Module = torchvision.models.get_model(variant, weights=None, num_classes=num_classes, **options)
    if heads:
        network.unused_keys = heads  # type: ignore[assignment]  # read by `weights.key_names`
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def timm_classifier(num_classes: int, channels: int, variant: str, **options: Any) -> nn.Module:  # noqa: ANN401 - the library's own
    """Return timm's network of that name, with other options of its own where these are given.

    Raises: InvalidSpec where timm is not installed, or has no such network.
    """
    from faal_core import torchvision_import  # noqa: F401 - timm imports torchvision

    try:
        import timm
    except ModuleNotFoundError:
        raise InvalidSpec(
            f"The network {variant} needs timm, which is not installed. Run pip install 'faal[timm]'."
        ) from None
    if not timm.is_model(variant):
        raise _explain_absence("timm", variant)
    with _OnCpu(torch.linspace):  # older versions compute the rates of stochastic depth from one
        network: nn.Module = timm.create_model(
            variant, pretrained=False, num_classes=num_classes, in_chans=channels, **options
        )
    return network


def _explain_absence(library: str, variant: str) -> InvalidSpec:
    """Return the error for a name that the installed version of the library does not have."""
    return InvalidSpec(
        f"{library} {version(library)} has no network {variant}. Install another version of {library}, or choose a name that "
        "`faal catalog` lists."
    )


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Replace the first convolution by one that takes `channels` channels."""
    name, old = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    parent, _, leaf = name.rpartition(".")
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    setattr(network.get_submodule(parent), leaf, new)
