"""Networks by name: their sizes, key names and computations."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from faal_core import catalog, networks
from faal_core.catalog import library_names
from faal_core.errors import InvalidSpec
from faal_core.networks import build
from faal_core.networks.preact_resnet import PreActBlock
from faal_core.networks.wide_resnet import WideBlock
from faal_core.specs import ClassifierSpec
from faal_core.torchvision_import import torchvision
from faal_core.weights import read_classifier

import timm  # isort: skip - imports torchvision


def make_spec(architecture: str, channels: int = 3, num_classes: int = 10, **arguments: int) -> ClassifierSpec:
    """Return a spec without normalisation."""
    return ClassifierSpec(
        architecture=architecture,
        num_classes=num_classes,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        arguments=arguments,
    )


def list_keys(norms: str, *convolutions: str) -> set[str]:
    """Return the keys of batch-norms and of convolutions without bias, from the modules' names."""
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{name}.{part}" for name in norms.split() for part in parts} | {f"{name}.weight" for name in convolutions}


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [("preact_resnet18", 11_172_170), ("wrn_28_10", 36_479_194), ("wrn_34_10", 46_160_474)],
)
def test_has_the_published_number_of_parameters(architecture: str, parameters: int) -> None:
    """With 10 classes a network has as many parameters as the published one.

    Source: kuangliu/pytorch-cifar's PreActResNet18 (11,171,146) and 1,024 for the last batch-norm; Zagoruyko's table of
    wide networks (36.5 M) and TRADES' checkpoint without sub_block1 (46.16 M), to the unit by torch's own count.
    """
    with torch.device("meta"):
        backbone = networks._build_backbone(make_spec(architecture))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters


def test_preact_resnet18_has_the_public_key_names() -> None:
    """Its state dict has the keys of the checkpoints of Bag of Tricks for AT, AWP and robust overfitting."""
    expected = list_keys("bn", "conv1") | {"linear.weight", "linear.bias"}
    for layer in range(1, 5):
        for block in range(2):
            name = f"layer{layer}.{block}"
            expected |= list_keys(f"{name}.bn1 {name}.bn2", f"{name}.conv1", f"{name}.conv2")
        if layer > 1:
            expected |= {f"layer{layer}.0.shortcut.0.weight"}
    assert set(build(make_spec("preact_resnet18")).backbone.state_dict()) == expected


def test_wrn_34_10_has_the_public_key_names() -> None:
    """Its state dict has the keys of TRADES' checkpoints, without the stage that TRADES never uses."""
    expected = list_keys("bn1", "conv1") | {"fc.weight", "fc.bias"}
    for stage in range(1, 4):
        for block in range(5):
            name = f"block{stage}.layer.{block}"
            expected |= list_keys(f"{name}.bn1 {name}.bn2", f"{name}.conv1", f"{name}.conv2")
        expected |= {f"block{stage}.layer.0.convShortcut.weight"}
    with torch.device("meta"):
        backbone = networks._build_backbone(make_spec("wrn_34_10"))
    assert set(backbone.state_dict()) == expected


def normalise(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Return ReLU of batch-norm in eval mode, by its definition."""
    mean, var, weight, bias = (
        state[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)


@pytest.mark.parametrize(("kind", "shortcut"), [(PreActBlock, "shortcut.0"), (WideBlock, "convShortcut")])
@pytest.mark.parametrize(("channels_out", "stride"), [(4, 1), (6, 2)])
def test_block_computes_the_papers_formula(
    kind: type[PreActBlock | WideBlock], shortcut: str, channels_out: int, stride: int
) -> None:
    """A block adds two convolutions to its input or, where the shape changes, to a convolution of the *rectified* input."""
    torch.manual_seed(0)
    block = kind(4, channels_out, stride).eval()
    for name, buffer in block.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    state = block.state_dict()
    x = torch.randn(2, 4, 8, 8)
    activation = normalise(x, state, "bn1")
    identity = x if channels_out == 4 else functional.conv2d(activation, state[f"{shortcut}.weight"], stride=stride)
    inner = normalise(functional.conv2d(activation, state["conv1.weight"], stride=stride, padding=1), state, "bn2")
    expected = identity + functional.conv2d(inner, state["conv2.weight"], padding=1)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("side", [8, 28, 33])
@pytest.mark.parametrize("channels", [1, 4])
def test_small_resnet_takes_any_size(side: int, channels: int, stem_stride: int) -> None:
    """Images of any side from 8 and of 1 to 4 channels get one logit per class."""
    classifier = build(make_spec("small_resnet", channels, 7, stem_stride=stem_stride))
    assert classifier(torch.rand(2, channels, side, side)).shape == (2, 7)


def test_small_resnet_heeds_its_arguments() -> None:
    """`width` sets the channels of the first stage, `blocks` the blocks of every stage; absent ones are the catalog's."""
    wide = build(make_spec("small_resnet", width=8, blocks=2)).backbone.state_dict()
    assert wide["linear.weight"].shape == (10, 32)
    assert {name.split(".")[1] for name in wide if name.startswith("stage3.")} == {"0", "1"}
    default = build(make_spec("small_resnet")).backbone.state_dict()
    assert default["stem.weight"].shape[0] == catalog.architecture("small_resnet").arguments["width"].default


def test_classifiers_are_built_in_eval_mode() -> None:
    """`build` returns classifiers in eval mode: batch-norm statistics stay fixed and dropout is off."""
    assert not any(module.training for module in build(make_spec("torchvision/squeezenet1_1")).modules())


def test_refuses_too_many_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network beyond the limit is refused with its number of parameters, before its memory is allocated."""
    monkeypatch.setattr(networks, "MAX_PARAMETERS", 11_172_169)
    with pytest.raises(InvalidSpec, match="11,172,170 parameters"):
        build(make_spec("preact_resnet18"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "architecture", ["torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x1_0", "timm/convnext_atto"]
)
def test_third_party_networks_take_any_number_of_channels(architecture: str, channels: int) -> None:
    """Torchvision's and timm's networks have as many input channels and classes as the spec says."""
    assert build(make_spec(architecture, channels, 5))(torch.rand(2, channels, 64, 64)).shape == (2, 5)


def is_usual(architecture: str) -> bool:
    """Return whether a network is laid out in each run of the tests: those outside timm, and each 60th of timm."""
    return not architecture.startswith("timm/") or architecture in TIMM[::60]


BUILT = sorted(catalog.architectures().keys() - {"onnx"})  # an ONNX network comes as a file
TIMM = [name for name in BUILT if name.startswith("timm/")]


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[] if is_usual(name) else pytest.mark.slow) for name in BUILT],
)
@pytest.mark.usefixtures("no_network")
def test_every_offered_network_can_be_laid_out(architecture: str) -> None:
    """Every name in the catalog has a builder that works on the meta device, for grey images and 3 classes, offline."""
    with torch.device("meta"):
        backbone = networks._build_backbone(make_spec(architecture, 1, 3))
    assert sum(parameter.numel() for parameter in backbone.parameters()) > 0


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_names_are_those_of_the_installed_libraries() -> None:
    """The file of names was written for the installed versions; run `python scripts/write_names.py` after an update."""
    names = json.loads(Path(catalog.__file__).with_name("library_names.json").read_text())
    assert names["torchvision"]["version"] == torchvision.__version__.partition("+")[0]
    assert names["torchvision"]["names"] == torchvision.models.list_models(module=torchvision.models)
    assert names["timm"]["version"] == timm.__version__
    assert sorted(names["timm"]["names"] + names["timm"]["left_out"]) == sorted(timm.list_models())


@pytest.mark.parametrize(
    ("name", "version", "is_accepted"),
    [
        ("timm/resnet_of_tomorrow", "99.0.0", True),
        ("torchvision/resnet_of_tomorrow", "99.0.0+cpu", True),
        ("timm/resnet_of_tomorrow", "1.0.0", False),
        ("timm/hf-hub:someone/else", "99.0.0", False),
        ("timm/resnet50.a1_in1k", "99.0.0", False),
        ("other/resnet50", "99.0.0", False),
    ],
)
def test_a_newer_library_may_have_more_names(
    name: str, version: str, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain name that is not listed passes where the installed library is newer; what it lacks is refused when it is built."""
    monkeypatch.setattr(library_names, "version", lambda _: version)
    if not is_accepted:
        with pytest.raises(ValidationError, match="There is no architecture named"):
            make_spec(name)
        return
    with pytest.raises(InvalidSpec, match="has no network resnet_of_tomorrow"):
        build(make_spec(name))


def test_googlenet_reads_files_with_its_auxiliary_heads(tmp_path: Path) -> None:
    """A published file holds heads that only take part in training; they are left out."""
    with pytest.warns(FutureWarning, match="initialization"):
        whole = torchvision.models.googlenet(num_classes=10)
    torch.save(whole.state_dict(), tmp_path / "net.pth")
    classifier = read_classifier(tmp_path / "net.pth", make_spec("torchvision/googlenet"))
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(classifier(x), whole.eval()(x))
    assert isinstance(classifier.train()(x), Tensor)


def test_torchvision_can_be_imported_first() -> None:
    """A fresh process can import torchvision through our module, with any build of torch."""
    program = "from faal_core.torchvision_import import torchvision; print(torchvision.models.resnet18.__name__)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "resnet18\n"
    )
