"""Define a classifier, which normalises pixels in [0, 1] and returns logits. The module also names the tensor shapes."""

import sys

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from faal_core.errors import ClassifierUnsuitable
from faal_core.specs import ClassifierSpec

_LAYER_IN_CACHE = 6 * 2**20  # bytes; forward and backward passes were fastest there (benchmarks/notes/autoattack.md)

Images = Float[Tensor, "n c h w"]
Labels = Int64[Tensor, " n"]
Logits = Float[Tensor, "n k"]
PerImage = Float[Tensor, " n"]


class Classifier(nn.Module):
    """Puts a backbone behind its normalisation, so that an attack's radius is measured in pixels of [0, 1].

    Args:
        backbone: maps normalised images `n c h w` to logits `n k`.
        spec: architecture, number of classes, and mean and std per channel for pixels in [0, 1].
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
        """Return the number of logits."""
        return self.spec.num_classes

    def forward(self, x: Images) -> Logits:
        """Return the logits of images with pixels in [0, 1], in float32 whatever precision the network computes in.

        Raises: ClassifierUnsuitable where the network returns no tensor.
        """
        logits = self.backbone(self._normalise(x))
        if not isinstance(logits, Tensor):
            raise ClassifierUnsuitable(f"The network returned a {type(logits).__name__} instead of a tensor of logits.")
        return logits.float()

    def _normalise(self, x: Images) -> Images:
        """Return (x − mean) / std, computed on whole images.

        Broadcasting channels over channels-last images is slow on a CPU.
        """
        if not any(self.spec.mean) and set(self.spec.std) == {1.0}:
            return x
        scale = torch.ones_like(x[:1]) / self.std
        return torch.addcmul(-self.mean * scale, x, scale)

    @property
    def layout(self) -> torch.memory_format:
        """Return the faster memory layout that is safe: channels-last, or the default where that corrupts memory.

        torch 2.13 on a CPU writes out of bounds in the weight gradient of a strided 1 × 1 convolution of fewer than 16
        channels in channels-last layout, where threads share a batch unevenly (measured in benchmarks/notes/torch-memory.md).
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
        """Return a copy of `x` in the classifier's layout.

        `x.contiguous` does not do that: for images of one channel both layouts look the same to it, and it keeps the
        strides by which convolutions choose their algorithm.
        """
        return x.clone(memory_format=self.layout)

    def place(self, device: torch.device) -> "Classifier":
        """Move the classifier to `device` in its layout, and return it."""
        return self.to(device).to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stub lacks it

    def images_in_cache(self, shape: torch.Size) -> int:
        """Return the number of images that a CPU passes fastest at a time.

        The largest layer's outputs for that many images fit into its cache. There is no limit on a GPU, and where the
        network does not accept such images.

        Args:
            shape: shape of one image, `c h w`.
        Cost: one forward pass of two images, the first time.
        """
        if self.device.type != "cpu":
            return sys.maxsize
        if shape not in self._in_cache:
            largest = self._largest_layer(shape)
            self._in_cache[shape] = max(_LAYER_IN_CACHE // largest, 1) if largest else sys.maxsize
        return self._in_cache[shape]

    def _largest_layer(self, shape: torch.Size) -> int:
        """Return the size of the largest layer's output in bytes per image; 0 where the network does not accept such images."""
        sizes: list[int] = []

        def measure(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                sizes.append(output.element_size() * output.numel() // 2)

        hooks = [module.register_forward_hook(measure) for module in self.backbone.modules()]
        try:
            with torch.no_grad():
                self(self.lay_out(torch.zeros(2, *shape)))
        except (RuntimeError, ValueError, AssertionError):  # the caller gets the error when it passes images
            return 0
        finally:
            for hook in hooks:
                hook.remove()
        return max(sizes, default=0)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.mean.device
