"""ResNets for 32 × 32 images, with the key names of RobustBench's ResNet-18, 34 and 50."""

from torch import Tensor, nn
from torch.nn import functional

_BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3)}
_EXPANSION = 4  # of a bottleneck's last convolution


class ResidualBlock(nn.Module):
    """A residual block of two 3 × 3 convolutions, or of a bottleneck of 1 × 1, 3 × 3 and 1 × 1.

    Batch-norm follows each convolution, and ReLU each but the last, where it follows the sum with the shortcut.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5.
    """

    def __init__(self, channels_in: int, width: int, stride: int, *, is_bottleneck: bool) -> None:
        super().__init__()
        channels_out = width * (_EXPANSION if is_bottleneck else 1)
        if is_bottleneck:
            shapes = [(channels_in, width, 1, 1), (width, width, 3, stride), (width, channels_out, 1, 1)]
        else:
            shapes = [(channels_in, width, 3, stride), (width, width, 3, 1)]
        self.depth = len(shapes)
        for i, (fan_in, fan_out, side, step) in enumerate(shapes, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(fan_in, fan_out, side, step, padding=side // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(fan_out))
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features; height and width are divided by the stride."""
        out = x
        for i in range(1, self.depth + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            out = functional.relu(out if i < self.depth else out + self.shortcut(x))
        return out


def _build_stage(channels_in: int, width: int, blocks: int, stride: int, *, is_bottleneck: bool) -> nn.Sequential:
    """Return a sequence of `blocks` blocks; the first changes the number of channels and the resolution."""
    channels_out = width * (_EXPANSION if is_bottleneck else 1)
    shapes = [(channels_in, stride), *[(channels_out, 1)] * (blocks - 1)]
    return nn.Sequential(*(ResidualBlock(fan_in, width, step, is_bottleneck=is_bottleneck) for fan_in, step in shapes))


class CifarResNet(nn.Module):
    """A 3 × 3 stem, four stages at strides 1, 2, 2, 2, mean over positions, one linear layer."""

    def __init__(self, num_classes: int, channels: int, blocks: tuple[int, ...], *, is_bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        expansion = _EXPANSION if is_bottleneck else 1
        self.layer1 = _build_stage(64, 64, blocks[0], 1, is_bottleneck=is_bottleneck)
        self.layer2 = _build_stage(64 * expansion, 128, blocks[1], 2, is_bottleneck=is_bottleneck)
        self.layer3 = _build_stage(128 * expansion, 256, blocks[2], 2, is_bottleneck=is_bottleneck)
        self.layer4 = _build_stage(256 * expansion, 512, blocks[3], 2, is_bottleneck=is_bottleneck)
        self.linear = nn.Linear(512 * expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = functional.relu(self.bn1(self.conv1(x)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


def cifar_resnet(num_classes: int, channels: int, variant: str) -> CifarResNet:
    """Return the network of `variant` layers with random weights: bottlenecks in the one of 50."""
    return CifarResNet(num_classes, channels, _BLOCKS[variant], is_bottleneck=variant == "50")
