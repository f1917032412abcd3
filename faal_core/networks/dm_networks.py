"""Networks of Gowal et al. 2020 with SiLU, under the key names of DeepMind's and RobustBench's checkpoints.

The published code normalises inside the network. Here the classifier does, by the same mean and std.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from faal_core.networks.preact_resnet import initialise_convolutions


def _pad(x: Tensor, stride: int) -> Tensor:
    """Return `x` with the border by which a 3 × 3 convolution at stride 1 or 2 computes TensorFlow's `SAME` result."""
    before = 1 if stride == 1 else 0
    return functional.pad(x, (before, 1, before, 1))


class WideDmBlock(nn.Module):
    """A pre-activation block with a 1 × 1 convolution of the activated input as shortcut, where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(channels_in)
        self.conv_0 = nn.Conv2d(channels_in, channels_out, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(channels_out)
        self.conv_1 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features with `channels_out` channels; height and width are divided by the stride."""
        activated = functional.silu(self.batchnorm_0(x))
        identity = x if self.shortcut is None else self.shortcut(activated)
        inner = functional.silu(self.batchnorm_1(self.conv_0(_pad(activated, self.stride))))
        out: Tensor = self.conv_1(inner) + identity
        return out


class PreActDmBlock(nn.Module):
    """A pre-activation block with a 3 × 3 convolution of the input itself as shortcut, where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(channels_in)
        self.conv_2d_1 = nn.Conv2d(channels_in, channels_out, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(channels_out)
        self.conv_2d_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 3, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features with `channels_out` channels; height and width are divided by the stride."""
        identity = x if self.shortcut is None else self.shortcut(_pad(x, self.stride))
        activated = functional.silu(self.batchnorm_0(x))
        inner = functional.silu(self.batchnorm_1(self.conv_2d_1(_pad(activated, self.stride))))
        out: Tensor = self.conv_2d_2(inner) + identity
        return out


def _build_stage(
    block: type[WideDmBlock | PreActDmBlock], channels_in: int, channels_out: int, blocks: int, stride: int
) -> nn.Sequential:
    """Return a sequence of `blocks` blocks; the first changes the number of channels and the resolution."""
    rest = (block(channels_out, channels_out, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(channels_in, channels_out, stride), *rest)


class DmWideResNet(nn.Module):
    """A stem, three stages at strides 1, 2, 2, batch-norm and SiLU, mean over positions, one linear layer.

    Source: Gowal et al. 2020, "Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial Examples".
    """

    def __init__(self, num_classes: int, channels: int, depth: int, width_factor: int) -> None:
        super().__init__()
        widths = [16, 16 * width_factor, 32 * width_factor, 64 * width_factor]
        stages = [
            _build_stage(WideDmBlock, widths[i], widths[i + 1], (depth - 4) // 6, stride)
            for i, stride in enumerate((1, 2, 2))
        ]
        self.init_conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.layer = nn.Sequential(*(nn.Sequential(OrderedDict(block=stage)) for stage in stages))
        self.batchnorm = nn.BatchNorm2d(widths[-1])
        self.logits = nn.Linear(widths[-1], num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = functional.silu(self.batchnorm(self.layer(self.init_conv(x))))
        logits: Tensor = self.logits(features.mean(dim=(2, 3)))
        return logits


class DmPreActResNet(nn.Module):
    """A stem, four stages of two blocks at strides 1, 2, 2, 2, batch-norm and SiLU, mean over positions, one linear layer.

    Source: Rebuffi et al. 2021, "Fixing Data Augmentation to Improve Adversarial Robustness"; the code of Gowal et al. 2020.
    """

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv_2d = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.layer_0 = _build_stage(PreActDmBlock, 64, 64, 2, 1)
        self.layer_1 = _build_stage(PreActDmBlock, 64, 128, 2, 2)
        self.layer_2 = _build_stage(PreActDmBlock, 128, 256, 2, 2)
        self.layer_3 = _build_stage(PreActDmBlock, 256, 512, 2, 2)
        self.batchnorm = nn.BatchNorm2d(512)
        self.logits = nn.Linear(512, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = self.layer_3(self.layer_2(self.layer_1(self.layer_0(self.conv_2d(x)))))
        logits: Tensor = self.logits(functional.silu(self.batchnorm(features)).mean(dim=(2, 3)))
        return logits


def dm_wide_resnet(num_classes: int, channels: int, variant: str) -> DmWideResNet:
    """Return the wide network of `variant`, "depth-width factor", with random weights."""
    depth, width_factor = map(int, variant.split("-"))
    return DmWideResNet(num_classes, channels, depth, width_factor)


def dm_preact_resnet18(num_classes: int, channels: int) -> DmPreActResNet:
    """Return a PreActResNet-18 of Gowal et al. with random weights."""
    return DmPreActResNet(num_classes, channels)
