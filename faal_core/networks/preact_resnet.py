"""PreActResNet-18 for 32 × 32 images, and its pre-activation block."""

from torch import Tensor, nn
from torch.nn import functional


class PreActBlock(nn.Module):
    """A residual block that normalises and rectifies before each 3 × 3 convolution.

    Where the shape changes, a 1 × 1 convolution of the rectified input replaces the identity.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 4(e).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return features with `channels_out` channels; height and width are divided by the stride."""
        activated = functional.relu(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(activated)
        out: Tensor = self.conv2(functional.relu(self.bn2(self.conv1(activated)))) + identity
        return out


def build_preact_stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a sequence of `blocks` blocks; the first changes the number of channels and the resolution."""
    first = PreActBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(PreActBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)))


def initialise_convolutions(network: nn.Module) -> None:
    """Initialise every convolution of `network` by a normal distribution (fan-out, ReLU).

    Source: He et al. 2015, "Delving Deep into Rectifiers".
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class PreActResNet(nn.Module):
    """A stem, four stages at strides 1, 2, 2, 2, batch-norm and ReLU, mean over positions, one linear layer."""

    def __init__(self, num_classes: int, channels: int, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.layer1 = build_preact_stage(64, 64, blocks[0], 1)
        self.layer2 = build_preact_stage(64, 128, blocks[1], 2)
        self.layer3 = build_preact_stage(128, 256, blocks[2], 2)
        self.layer4 = build_preact_stage(256, 512, blocks[3], 2)
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images of any size from 8 × 8."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.linear(functional.relu(self.bn(features)).mean(dim=(2, 3)))
        return logits


def preact_resnet18(num_classes: int, channels: int) -> PreActResNet:
    """Return a PreActResNet-18 with random weights: two blocks a stage."""
    return PreActResNet(num_classes, channels, (2, 2, 2, 2))
