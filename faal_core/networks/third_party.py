"""Networks of torchvision and timm under their own names, always with random weights."""

from torch import nn

from faal_core.errors import InvalidSpec


def torchvision_classifier(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return torchvision's network of that name; for other than three channels, the first convolution is replaced."""
    from faal_core.torchvision_import import torchvision

    network: nn.Module = torchvision.models.get_model(variant, weights=None, num_classes=num_classes)
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def timm_classifier(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return timm's network of that name. Raises: InvalidSpec where timm is not installed."""
    from faal_core import torchvision_import  # noqa: F401 - timm imports torchvision

    try:
        import timm
    except ModuleNotFoundError:
        raise InvalidSpec(f"timm/{variant} needs timm, which is not installed. Run pip install 'faal[timm]'") from None
    network: nn.Module = timm.create_model(variant, pretrained=False, num_classes=num_classes, in_chans=channels)
    return network


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
