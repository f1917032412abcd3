"""PreActResNet-18 for 32 × 32 images, and its pre-activation block."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


class PreActBlock(nn.Module):
    """A residual block that normalises and rectifies before each 3 × 3 convolution.

    Where the shape changes, a 1 × 1 convolution of the rectified input replaces the identity.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 4(e).

    Args:
        activation: in place of ReLU.
        is_shortcut_raw: whether the 1 × 1 convolution takes the input itself, as in some code.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        activation: Callable[[Tensor], Tensor] = functional.relu,
        is_shortcut_raw: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.is_shortcut_raw = activation, is_shortcut_raw
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return features with `channels_out` channels; height and width are divided by the stride."""
        activated = self.activation(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(x if self.is_shortcut_raw else activated)
        out: Tensor = self.conv2(self.activation(self.bn2(self.conv1(activated)))) + identity
        return out


def build_preact_stage(
    channels_in: int,
    channels_out: int,
    blocks: int,
    stride: int,
    *,
    activation: Callable[[Tensor], Tensor] = functional.relu,
    is_shortcut_raw: bool = False,
) -> nn.Sequential:
    """Return a sequence of `blocks` blocks; the first changes the number of channels and the resolution."""
    widths, strides = [channels_in] + [channels_out] * (blocks - 1), [stride] + [1] * (blocks - 1)
    return nn.Sequential(
        *(
            PreActBlock(width, channels_out, step, activation=activation, is_shortcut_raw=is_shortcut_raw)
            for width, step in zip(widths, strides, strict=True)
        )
    )


def initialise_convolutions(network: nn.Module) -> None:
    """Initialise every convolution of `network` by a normal distribution (fan-out, ReLU), unless it has no values (meta device).

    Source: He et al. 2015, "Delving Deep into Rectifiers".
    """
    for module in network.modules():
        # On the meta device, torch would import its compiler for this, which takes a second and a half.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class PreActResNet(nn.Module):
    """A stem, four stages of two blocks at strides 1, 2, 2, 2, batch-norm and ReLU, mean over positions, one linear layer.

    Args:
        is_plain: whether batch-norm and ReLU before the mean are left out and shortcuts take the input itself, as in the code of
            Wong et al. 2020.
    """

    def __init__(self, num_classes: int, channels: int, *, is_plain: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.layer1 = build_preact_stage(64, 64, 2, 1, is_shortcut_raw=is_plain)
        self.layer2 = build_preact_stage(64, 128, 2, 2, is_shortcut_raw=is_plain)
        self.layer3 = build_preact_stage(128, 256, 2, 2, is_shortcut_raw=is_plain)
        self.layer4 = build_preact_stage(256, 512, 2, 2, is_shortcut_raw=is_plain)
        self.bn = None if is_plain else nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        if self.bn is not None:
            features = functional.relu(self.bn(features))
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


def preact_resnet18(num_classes: int, channels: int) -> PreActResNet:
    """Return a PreActResNet-18 with random weights: two blocks a stage."""
    return PreActResNet(num_classes, channels)


def plain_preact_resnet18(num_classes: int, channels: int) -> PreActResNet:
    """Return the PreActResNet-18 of Wong et al. 2020 with random weights."""
    return PreActResNet(num_classes, channels, is_plain=True)
