"""Wide ResNets for 32 × 32 images, with the key names of TRADES' code."""

from collections import OrderedDict
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from faal_core.networks.preact_resnet import initialise_convolutions


class WideBlock(nn.Module):
    """A pre-activation block whose shortcut is named as in TRADES' code.

    Source: Zagoruyko and Komodakis 2016, figure 1(d) without dropout.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if channels_in != channels_out:
            self.convShortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features with `channels_out` channels; height and width are divided by the stride."""
        activated = functional.relu(self.bn1(x))
        identity = x if self.convShortcut is None else self.convShortcut(activated)
        out: Tensor = self.conv2(functional.relu(self.bn2(self.conv1(activated)))) + identity
        return out


def _build_stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """Return `blocks` blocks under the name `layer`; the first changes the number of channels and the resolution."""
    first = WideBlock(channels_in, channels_out, stride)
    rest = (WideBlock(channels_out, channels_out, 1) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *rest)))


class WideResNet(nn.Module):
    """A stem, three stages at strides 1, 2, 2, batch-norm and ReLU, mean over positions, one linear layer."""

    # TRADES' code has one more first stage, which its forward pass does not use.
    unused_keys: ClassVar[tuple[str, ...]] = ("sub_block1.",)

    def __init__(self, num_classes: int, channels: int, depth: int, width_factor: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _build_stage(16, 16 * width_factor, blocks, 1)
        self.block2 = _build_stage(16 * width_factor, 32 * width_factor, blocks, 2)
        self.block3 = _build_stage(32 * width_factor, 64 * width_factor, blocks, 2)
        self.bn1 = nn.BatchNorm2d(64 * width_factor)
        self.fc = nn.Linear(64 * width_factor, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(functional.relu(self.bn1(features)).mean(dim=(2, 3)))
        return logits


def wrn_28_10(num_classes: int, channels: int) -> WideResNet:
    """Return a Wide ResNet 28-10 with random weights: four blocks a stage, ten times the width."""
    return WideResNet(num_classes, channels, 28, 10)


def wrn_34_10(num_classes: int, channels: int) -> WideResNet:
    """Return a Wide ResNet 34-10 with random weights: five blocks a stage, ten times the width."""
    return WideResNet(num_classes, channels, 34, 10)
