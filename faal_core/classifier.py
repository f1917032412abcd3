"""A classifier: pixels in [0, 1] go in, logits come out; normalisation is inside. Also the names of tensor shapes."""

import sys

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from faal_core.errors import ClassifierUnsuitable
from faal_core.specs import ClassifierSpec

_LAYER_IN_CACHE = 6 * 2**20  # bytes; where docs/benchmarks.md found forward and backward passes fastest

Images = Float[Tensor, "n c h w"]
Labels = Int64[Tensor, " n"]
Logits = Float[Tensor, "n k"]
PerImage = Float[Tensor, " n"]


class Classifier(nn.Module):
    """A backbone behind its normalisation, so that an attack's radius means pixels whatever the training code did.

    Args:
        backbone: maps normalised images `n c h w` to logits `n k`.
        spec: what it is: architecture, number of classes, mean and std per channel in units of [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, spec: ClassifierSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self._in_cache: dict[torch.Size, int] = {}
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return self.spec.num_classes

    def forward(self, x: Images) -> Logits:
        """Logits of images with pixels in [0, 1], in float32 whatever the network computes in.

        Raises: ClassifierUnsuitable where the network answers no tensor.
        """
        logits = self.backbone(self._normalised(x))
        if not isinstance(logits, Tensor):
            raise ClassifierUnsuitable(f"The network answers a {type(logits).__name__} instead of a tensor of logits.")
        return logits.float()

    def _normalised(self, x: Images) -> Images:
        """(x − mean) / std as one operation on whole images: broadcasting channels of channels-last images is slow on a CPU."""
        if not any(self.spec.mean) and set(self.spec.std) == {1.0}:
            return x
        scale = torch.ones_like(x[:1]) / self.std
        return torch.addcmul(-self.mean * scale, x, scale)

    @property
    def layout(self) -> torch.memory_format:
        """The faster memory layout that is safe: channels-last, or the default where that corrupts memory.

        torch 2.13 on a CPU writes out of bounds in the weight gradient of a strided 1 × 1 convolution of fewer than 16 channels
        in channels-last layout, where threads share a batch unevenly (measured in docs/benchmarks.md).
        """
        hazardous = any(
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and max(module.stride) > 1
            and module.in_channels // module.groups < 16
            for module in self.backbone.modules()
        )
        return torch.contiguous_format if hazardous else torch.channels_last

    def lay_out(self, x: Images) -> Images:
        """A copy of `x` in that layout.

        `x.contiguous` would not do: it takes images of one channel for both layouts and keeps their strides, by which the
        convolutions go.
        """
        return x.clone(memory_format=self.layout)

    def place(self, device: torch.device) -> "Classifier":
        """The classifier itself, moved to `device` in its layout."""
        return self.to(device).to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stub lacks it

    def images_in_cache(self, shape: torch.Size) -> int:
        """How many images a CPU passes at a time fastest: the largest of the network's layers then lies in its cache.

        Args:
            shape: of one image.
        Cost: one forward pass of two images, the first time. On a GPU, and where the network does not take such images, there is
        no limit.
        """
        if self.device.type != "cpu":
            return sys.maxsize
        if shape not in self._in_cache:
            largest = self._largest_layer(shape)
            self._in_cache[shape] = max(_LAYER_IN_CACHE // largest, 1) if largest else sys.maxsize
        return self._in_cache[shape]

    def _largest_layer(self, shape: torch.Size) -> int:
        """In bytes an image; 0 where the network does not take such images."""
        sizes: list[int] = []

        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                sizes.append(output.element_size() * output.numel() // 2)

        hooks = [module.register_forward_hook(look) for module in self.backbone.modules()]
        try:
            with torch.no_grad():
                self(self.lay_out(torch.zeros(2, *shape)))
        except (RuntimeError, ValueError, AssertionError):  # who passes images is told so then
            return 0
        finally:
            for hook in hooks:
                hook.remove()
        return max(sizes, default=0)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device
