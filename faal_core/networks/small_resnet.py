"""A residual network small enough to train on a laptop: three stages, any image size from 8 × 8."""

from torch import Tensor, nn
from torch.nn import functional

from faal_core.networks.preact_resnet import build_preact_stage, initialise_convolutions


class SmallResNet(nn.Module):
    """A stem, three stages at strides 1, 2, 2, batch-norm and ReLU, mean over positions, one linear layer.

    Args:
        stem_stride: 2 halves the resolution at once, which takes a quarter of the time.
    """

    def __init__(self, num_classes: int, channels: int, width: int, blocks: int, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stem_stride, padding=1, bias=False)
        self.stage1 = build_preact_stage(width, width, blocks, 1)
        self.stage2 = build_preact_stage(width, 2 * width, blocks, 2)
        self.stage3 = build_preact_stage(2 * width, 4 * width, blocks, 2)
        self.bn = nn.BatchNorm2d(4 * width)
        self.linear = nn.Linear(4 * width, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of normalised images."""
        features = self.stage3(self.stage2(self.stage1(self.stem(x))))
        logits: Tensor = self.linear(functional.relu(self.bn(features)).mean(dim=(2, 3)))
        return logits


def small_resnet(num_classes: int, channels: int, width: int, blocks: int, stem_stride: int) -> SmallResNet:
    """Return a network with random weights: `width` channels in the first stage, `blocks` blocks in each stage."""
    return SmallResNet(num_classes, channels, width, blocks, stem_stride)
