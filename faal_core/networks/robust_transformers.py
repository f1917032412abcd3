"""Transformers and ConvNeXts of the robustness literature that timm does not have by name, built from timm's modules."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from faal_core.networks.third_party import timm_classifier

_XCIT = {"s12": (384, 8), "m12": (512, 8), "l12": (768, 16)}  # width and heads
_CONVNEXT_STEMS = {  # widths, and strides of the 3 × 3 convolutions
    "convnext_tiny": ((48, 96), (2, 2)),
    "convnext_small": ((48, 96), (2, 2)),
    "convnext_base": ((64, 96, 128), (2, 2, 1)),
    "convnext_large": ((96, 144, 192), (2, 2, 1)),
}
_VIT_WIDTHS = (48, 96, 192, 384)  # of its stem, before the 1 × 1 convolution to the width of the tokens


class ChannelNorm(nn.Module):
    """Normalises the channels of each position.

    Source: Ba et al. 2016, "Layer Normalization", over channels, as ConvNeXt's stem does.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with mean 0 and variance 1 over the channels, scaled and shifted."""
        out: Tensor = nn.functional.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6)
        return out.movedim(-1, 1)


class ConvStem(nn.Module):
    """A stem of 3 × 3 convolutions, each followed by a norm of its channels and GELU, in place of one large convolution.

    Source: Singh, Croce and Hein 2023, "Revisiting Adversarial Training for ImageNet".

    Args:
        widths: channels of the input and of each convolution's output.
        width_out: of a last 1 × 1 convolution; None for none.
    """

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], width_out: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        for (fan_in, fan_out), stride in zip(pairwise(widths), strides, strict=True):
            self.stem.extend([nn.Conv2d(fan_in, fan_out, 3, stride, padding=1), ChannelNorm(fan_out), nn.GELU()])
        if width_out is not None:
            self.stem.append(nn.Conv2d(widths[-1], width_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of lower resolution."""
        out: Tensor = self.stem(x)
        return out


def convnext_conv_stem(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return timm's ConvNeXt of that name with a stem of convolutions, with random weights. Raises: InvalidSpec."""
    network: Any = timm_classifier(num_classes, channels, variant)
    widths, strides = _CONVNEXT_STEMS[variant]
    network.stem = ConvStem((channels, *widths), strides)
    return network


def vit_conv_stem(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return timm's vision transformer of that name with a stem of convolutions, with random weights. Raises: InvalidSpec."""
    network: Any = timm_classifier(num_classes, channels, variant)
    network.patch_embed.proj = ConvStem((channels, *_VIT_WIDTHS), (2, 2, 2, 2), network.embed_dim)
    return network


def xcit(num_classes: int, channels: int, variant: str) -> nn.Module:
    """Return the XCiT of `variant`, "size-side of a patch", with random weights. Raises: InvalidSpec.

    Source: Debenedetti, Sehwag and Mittal 2023, "A Light Recipe to Train Robust Vision Transformers". For patches of 4 × 4 they
    take the first convolutions of the patches of 16 × 16 at stride 1.
    """
    size, side = variant.split("-")
    width, heads = _XCIT[size]
    options = {"patch_size": 16, "embed_dim": width, "depth": 12, "num_heads": heads, "eta": 1.0, "tokens_norm": True}
    network: Any = timm_classifier(num_classes, channels, "xcit_small_12_p16_224", **options)
    if side == "4":
        for i in (0, 2):
            network.patch_embed.proj[i][0].stride = (1, 1)
        network.patch_embed.patch_size = 4
    return network
