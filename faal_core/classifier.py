"""Define a classifier, which normalises pixels in [0, 1] and returns logits. The module also names the tensor shapes."""

import sys
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from faal_core.errors import ClassifierUnsuitable, InvalidSpec
from faal_core.specs import ClassifierSpec
from faal_core.specs.classifier import OWN_CODE
from faal_core.specs.field_errors import check_fields

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
        self._needs_contiguous = False
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def wrap(
        cls,
        network: nn.Module,
        *,
        num_classes: int,
        mean: float | Sequence[float] | Tensor = 0.0,
        std: float | Sequence[float] | Tensor = 1.0,
        class_names: Sequence[str] | None = None,
    ) -> "Classifier":
        """Return a network of your own as a classifier. The network is not copied.

        Audits compute in eval mode and in the network's precision, and restore the mode of each module afterwards.

        Args:
            network: maps normalised images `n c h w` to logits `n k`, before softmax.
            num_classes: k, at least 2.
            mean, std: the normalisation of the network's training, for pixels in [0, 1]: per channel, or one value for all
                channels. Leave them out where the network itself normalises.
            class_names: in the order of the logits.
        Raises: InvalidSpec if an argument is wrong.
        """
        if isinstance(network, cls) or not isinstance(network, nn.Module):
            raise InvalidSpec(
                f"A network is a torch.nn.Module, not {type(network).__name__}."
                + (" It is wrapped already." if isinstance(network, cls) else "")
            )
        if num_classes == 1:
            raise InvalidSpec(
                "A classifier has at least two logits. A network with one logit z has two classes: return "
                "torch.cat((-z, z), 1) / 2, whose softmax is the network's sigmoid, and pass num_classes=2."
            )
        means, stds = _as_list(mean), _as_list(std)
        if 1 in (len(means), len(stds)):
            channels = max(len(means), len(stds))
            means, stds = (one * channels if len(one) == 1 else one for one in (means, stds))
        spec = check_fields(
            ClassifierSpec,
            architecture=f"{OWN_CODE}{type(network).__module__}.{type(network).__qualname__}",
            num_classes=num_classes,
            mean=means,
            std=stds,
            class_names=class_names,
        )
        classifier = cls(network, spec)
        device = next((one.device for one in network.parameters()), classifier.device)
        classifier.mean, classifier.std = classifier.mean.to(device), classifier.std.to(device)
        return classifier

    @property
    def num_classes(self) -> int:
        """Return the number of logits."""
        return self.spec.num_classes

    def adapt_to_channels(self, channels: int) -> None:
        """Apply the single mean and std of a wrapped network to that many channels; change nothing where it has several."""
        if self.spec.needs_own_code and self.spec.channels == 1:
            self.spec = self.spec.for_channels(channels)

    def forward(self, x: Images) -> Logits:
        """Return the logits of images with pixels in [0, 1], in float32 whatever precision the network computes in.

        Raises: ClassifierUnsuitable where the network returns no tensor.
        """
        logits = self.backbone(self._normalise(x).to(self._precision))
        if not isinstance(logits, Tensor):
            raise ClassifierUnsuitable(_describe_output(logits))
        return logits.float()

    @property
    def _precision(self) -> torch.dtype:
        """Return the floating-point type of the network's first weights; float32 for a network without weights."""
        return next((one.dtype for one in self.backbone.parameters() if one.is_floating_point()), torch.float32)

    def _normalise(self, x: Images) -> Images:
        """Return (x − mean) / std, computed on whole images.

        Broadcasting channels over channels-last images is slow on a CPU.
        """
        if not any(self.spec.mean) and set(self.spec.std) == {1.0}:
            return x.clone() if self.spec.needs_own_code else x  # own code may change its input in place
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
        return torch.contiguous_format if hazardous or self._needs_contiguous else torch.channels_last

    @torch.no_grad()
    def choose_layout(self, x: Images) -> None:
        """Use the default layout from now on where own code accepts these images in that layout alone, as `Tensor.view` does."""
        if not self.spec.needs_own_code or self._accepts(x[:2]):
            return
        self._needs_contiguous = True
        for weight in self.parameters():  # `to` keeps the strides of weights to which both layouts look the same
            weight.data = weight.data.clone(memory_format=torch.contiguous_format)
        self._needs_contiguous = self._accepts(x[:2])
        self.place(self.device)

    def _accepts(self, x: Images) -> bool:
        """Return whether the network accepts the images in the classifier's layout."""
        try:
            self(self.lay_out(x))
        except RuntimeError:
            return False
        except (ValueError, AssertionError, TypeError):  # no matter of layout
            return True
        return True

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
        except (RuntimeError, ValueError, AssertionError, TypeError):  # the caller gets the error when it passes images
            return 0
        finally:
            for hook in hooks:
                hook.remove()
        return max(sizes, default=0)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.mean.device


def _as_list(values: float | Sequence[float] | Tensor) -> list[float]:
    """Return the values as floats; a single number as a list of one."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()


def _describe_output(output: object) -> str:
    """Return the message about a network that returns `output` instead of logits."""
    names = [str(name) for name in output] if isinstance(output, Mapping) else []
    found = f"a {type(output).__name__}" + (f" with {', '.join(names[:8])}" if names else "")
    if "logits" in names or hasattr(output, "logits"):
        advice = "Wrap a module whose forward returns the output's logits alone."
    elif isinstance(output, tuple | list):
        advice = f"Wrap a module whose forward returns the logits alone, one of the {len(output)} entries."
    else:
        advice = "Wrap a module whose forward returns the logits alone."
    return f"The network returned {found} instead of a tensor of logits. {advice}"
