"""Networks of RobustBench's zoo: the names and shapes of their checkpoints, and the formulas of their blocks."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core.errors import WeightsMismatch
from faal_core.networks import build, outline
from faal_core.networks.cifar_resnet import ResidualBlock
from faal_core.networks.dm_networks import PreActDmBlock, WideDmBlock
from faal_core.networks.preact_resnet import PreActBlock
from faal_core.networks.robust_transformers import ChannelNorm, ConvStem
from faal_core.specs import ClassifierSpec
from faal_core.weights import digest, read_classifier

ZOO = {
    "dm_wrn_28_10": (155, "0531b581f897bd8c"),
    "dm_wrn_34_10": (191, "7c74177d031c245d"),
    "dm_wrn_34_20": (191, "f7cd01b04966c277"),
    "dm_wrn_70_16": (407, "52d06dcc56f70954"),
    "dm_wrn_82_8": (479, "3619cc3a030dd61a"),
    "dm_wrn_94_16": (551, "4839578c95b63afb"),
    "dm_wrn_106_16": (623, "d95f16d8c1bc8c83"),
    "dm_preact_resnet18": (107, "ca584666d7f1724b"),
    "wrn_70_16": (407, "c7625cf2d99c7e85"),
    "wrn_34_20": (191, "f497b5145e9c19f9"),
    "wrn_34_15": (191, "647f2ca2c3f75524"),
    "wrn_40_2": (227, "d942bd7bb6c7a539"),
    "wrn_34_10": (191, "c51a3ee10e86a254"),
    "wrn_34_r": (191, "2a480a1b4c810a51"),
    "wrn_a4": (827, "06dc7cf9c360b628"),
    "cifar_resnet18": (122, "f64ef8e902a589aa"),
    "cifar_resnet34": (218, "34a3892c01a82495"),
    "cifar_resnet50": (320, "944df84bf7b5ad48"),
    "preact_resnet18_plain": (102, "40b4baee681e5d39"),
    "preact_resnet18": (107, "e50cfc34d69707e1"),
    "xcit_s12_p16": (391, "95184b2002abcffd"),
    "xcit_s12_p4": (391, "194f5f9422f25527"),
    "xcit_m12_p16": (391, "405a288d05075411"),
    "xcit_m12_p4": (391, "3442325099929b05"),
    "xcit_l12_p16": (391, "9d557dda0ec2ed41"),
    "xcit_l12_p4": (391, "d25f5e8b5ae06d8b"),
    "convnext_tiny_convstem": (186, "dd4267d604c6ea47"),
    "convnext_small_convstem": (348, "9ce852b9085fe7a0"),
    "convnext_base_convstem": (352, "ac7068e198fe63a7"),
    "convnext_large_convstem": (352, "cf328d78e0915995"),
    "vit_small_convstem": (168, "ddf60395dd03fd18"),
    "vit_base_convstem": (168, "24d62b46fd8596d0"),
}
"""By architecture: how many tensors the state dict of RobustBench 1.1.1 has, and the start of the SHA-256 over the sorted lines
"name shape". Normalisation buffers, the unused `sub_block1` and the prefix `model.` are left out."""


@pytest.mark.parametrize("architecture", sorted(ZOO))
def test_names_and_shapes_are_those_of_the_zoo(architecture: str) -> None:
    """A network has the names and shapes of RobustBench's, which were written down in its own environment."""
    classes = 1000 if architecture.endswith(("_p16", "_convstem")) else 100 if architecture == "dm_wrn_34_10" else 10
    spec = ClassifierSpec(architecture=architecture, num_classes=classes, mean=(0, 0, 0), std=(1, 1, 1))
    shapes = {name: tuple(tensor.shape) for name, tensor in outline(spec).state_dict().items()}
    lines = "".join(f"{name} {shape}\n" for name, shape in sorted(shapes.items()))
    assert (len(shapes), hashlib.sha256(lines.encode()).hexdigest()[:16]) == ZOO[architecture]


def vary_norms(block: nn.Module) -> dict[str, Tensor]:
    """Give the batch-norms of a block statistics of their own, and return the block's state."""
    torch.manual_seed(0)
    for module in block.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.uniform_(0.5, 1.5)
    return block.state_dict()


def normalise(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Return batch-norm in eval mode, by its definition."""
    mean, var, weight, bias = (
        state[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def convolve_same(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return TensorFlow's `SAME` convolution: the missing border is split evenly, with the odd pixel at the end."""
    side = -(-x.shape[-1] // stride)
    missing = max((side - 1) * stride + weight.shape[-1] - x.shape[-1], 0)
    border = (missing // 2, missing - missing // 2) * 2
    return functional.conv2d(functional.pad(x, border), weight, stride=stride)


@pytest.mark.parametrize(("channels_out", "stride"), [(4, 1), (6, 1), (6, 2)])
def test_a_wide_block_of_deepmind_computes_its_formula(channels_out: int, stride: int) -> None:
    """Two `SAME` convolutions of SiLU of batch-norm, plus the input or a 1 × 1 convolution of the activated input."""
    block = WideDmBlock(4, channels_out, stride)
    state, x = vary_norms(block), torch.randn(2, 4, 8, 8)
    activated = functional.silu(normalise(x, state, "batchnorm_0"))
    identity = x if channels_out == 4 else convolve_same(activated, state["shortcut.weight"], stride)
    inner = functional.silu(normalise(convolve_same(activated, state["conv_0.weight"], stride), state, "batchnorm_1"))
    torch.testing.assert_close(block(x), convolve_same(inner, state["conv_1.weight"], 1) + identity)


@pytest.mark.parametrize(("channels_out", "stride"), [(4, 1), (6, 2)])
def test_a_preact_block_of_deepmind_computes_its_formula(channels_out: int, stride: int) -> None:
    """Its shortcut is a 3 × 3 `SAME` convolution of the input itself."""
    block = PreActDmBlock(4, channels_out, stride)
    state, x = vary_norms(block), torch.randn(2, 4, 8, 8)
    identity = x if channels_out == 4 else convolve_same(x, state["shortcut.weight"], stride)
    activated = functional.silu(normalise(x, state, "batchnorm_0"))
    inner = functional.silu(
        normalise(convolve_same(activated, state["conv_2d_1.weight"], stride), state, "batchnorm_1")
    )
    torch.testing.assert_close(block(x), convolve_same(inner, state["conv_2d_2.weight"], 1) + identity)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_computes_its_formula(stride: int) -> None:
    """ReLU of the sum of a shortcut with batch-norm and two convolutions, each before its batch-norm."""
    block = ResidualBlock(4, 6, stride, is_bottleneck=False)
    state, x = vary_norms(block), torch.randn(2, 4, 8, 8)
    inner = normalise(functional.conv2d(x, state["conv1.weight"], stride=stride, padding=1), state, "bn1").clamp(min=0)
    out = normalise(functional.conv2d(inner, state["conv2.weight"], padding=1), state, "bn2")
    shortcut = normalise(functional.conv2d(x, state["shortcut.0.weight"], stride=stride), state, "shortcut.1")
    torch.testing.assert_close(block(x), (out + shortcut).clamp(min=0))


def test_a_raw_shortcut_takes_the_input_itself() -> None:
    """A block of Wong et al. differs from the common one by the convolution of the input that was not rectified."""
    block = PreActBlock(4, 6, 2, is_shortcut_raw=True)
    state, x = vary_norms(block), torch.randn(2, 4, 8, 8)
    usual = PreActBlock(4, 6, 2)
    usual.load_state_dict(state)
    activated = normalise(x, state, "bn1").clamp(min=0)
    difference = functional.conv2d(x - activated, state["shortcut.0.weight"], stride=2)
    torch.testing.assert_close(block(x), usual.eval()(x) + difference)


def test_a_stem_normalises_the_channels_of_each_position() -> None:
    """Each convolution is followed by a norm over channels; the stem divides the image's sides by its strides."""
    norm, x = ChannelNorm(5), torch.randn(2, 5, 3, 3)
    centred = x - x.mean(1, keepdim=True)
    torch.testing.assert_close(norm(x), centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt())
    assert ConvStem((3, 4, 8), (2, 2), 7)(torch.rand(1, 3, 16, 16)).shape == (1, 7, 4, 4)


@pytest.mark.parametrize(
    "architecture", ["cifar_resnet18", "dm_preact_resnet18", "preact_resnet18_plain", "xcit_s12_p4"]
)
def test_a_zoo_network_takes_images_of_one_channel(architecture: str) -> None:
    """A network has as many channels and classes as the spec says."""
    classifier = build(ClassifierSpec(architecture=architecture, num_classes=5))
    with torch.no_grad():
        assert classifier(torch.rand(2, 1, 32, 32)).shape == (2, 5)


CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


def add_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with the prefix before each name."""
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda state: state, None),
        (lambda state: add_prefix("module.", state), None),
        (lambda state: add_prefix("_orig_mod.", state), None),
        (lambda state: {"model": add_prefix("module._orig_mod.", state), "epoch": 3}, None),
        (lambda state: {"state_dict": add_prefix("net.", state), "pytorch-lightning_version": "2.4"}, None),
        (lambda state: {"unaveraged_model_state_dict": zero(state), "model_state_dict": state}, "model_state_dict"),
        (lambda state: {"state_dict": add_prefix("model.", zero(state)) | add_prefix("ema.", state)}, "ema"),
    ],
)
def test_a_checkpoint_of_the_zoo_is_read_in_any_wrapper(
    wrap: Callable[[dict[str, Tensor]], object], key: str | None, tmp_path: Path
) -> None:
    """The normalisation that DeepMind's networks hold is compared with the spec's, in each wrapper."""
    spec = ClassifierSpec(architecture="dm_preact_resnet18", num_classes=10, **CIFAR)
    torch.manual_seed(0)
    classifier = build(spec)
    buffers = {name: torch.tensor(values).view(3, 1, 1) for name, values in CIFAR.items()}
    torch.save(wrap({**buffers, **classifier.backbone.state_dict()}), tmp_path / "net.pt")
    assert digest(read_classifier(tmp_path / "net.pt", spec, key)) == digest(classifier)
    with pytest.raises(WeightsMismatch, match=r"normalises with std \(0\.2471, 0\.2435, 0\.2616\) in .*std"):
        read_classifier(tmp_path / "net.pt", spec.model_copy(update={"std": (0.2023, 0.1994, 0.2010)}), key)


def zero(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state of zeros that keeps the normalisation."""
    return {name: tensor if name in CIFAR else torch.zeros_like(tensor) for name, tensor in state.items()}
