"""Wide ResNets for 32 × 32 images, with the key names of TRADES' code and of RobustBench."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from faal_core.networks.preact_resnet import build_preact_stage, initialise_convolutions


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


class ScaledWideResNet(nn.Module):
    """A Wide ResNet with a width and a depth of its own for each stage, under the key names of RobustBench.

    Args:
        stages: sequences of blocks at strides 1, 2, 2; the first takes 16 channels.
        width: channels of the last stage.
        last_norm: name of the last batch-norm.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        stages: Sequence[nn.Sequential],
        width: int,
        *,
        last_norm: str,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.activation, self.last_norm = activation, last_norm
        self.stem_conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(stages)
        self.add_module(last_norm, nn.BatchNorm2d(width))
        self.fc = nn.Linear(width, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = self.stem_conv(x)
        for stage in self.blocks:
            features = stage(features)
        features = self.activation(self.get_submodule(self.last_norm)(features))
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits


def wide_resnet(num_classes: int, channels: int, variant: str) -> WideResNet:
    """Return the Wide ResNet of `variant`, "depth-width factor", with random weights."""
    depth, width_factor = map(int, variant.split("-"))
    return WideResNet(num_classes, channels, depth, width_factor)


def wrn_34_r(num_classes: int, channels: int) -> ScaledWideResNet:
    """Return the Wide ResNet 34-R with random weights: its last stage is narrower than a Wide ResNet's.

    Source: Huang et al. 2021, "Exploring Architectural Ingredients of Adversarially Robust Deep Neural Networks".
    """
    stages = [_build_stage(16, 320, 5, 1), _build_stage(320, 640, 5, 2), _build_stage(640, 512, 5, 2)]
    return ScaledWideResNet(num_classes, channels, stages, 512, last_norm="bn1", activation=functional.relu)


def wrn_a4(num_classes: int, channels: int) -> ScaledWideResNet:
    """Return the Wide ResNet A4 with random weights: SiLU, and 27, 28 and 13 blocks in its stages.

    Source: Huang et al. 2023, "Revisiting Residual Networks for Adversarial Robustness".
    """
    shapes = [(16, 160, 27, 1), (160, 448, 28, 2), (448, 384, 13, 2)]
    stages = [
        nn.Sequential(OrderedDict(layer=build_preact_stage(*shape, activation=functional.silu))) for shape in shapes
    ]
    return ScaledWideResNet(num_classes, channels, stages, 384, last_norm="norm1", activation=functional.silu)
