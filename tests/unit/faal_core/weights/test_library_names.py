"""Key names as networks' own libraries published them, and networks with other numbers of channels."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from faal_core.errors import WeightsMismatch
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
from faal_core.torchvision_import import torchvision
from faal_core.weights import digest, read_classifier, write_classifier
from faal_core.weights.library_names import rename_to_current


def make_colour_spec(architecture: str) -> ClassifierSpec:
    """Return the spec of a network of three classes on colour images."""
    return ClassifierSpec(architecture=architecture, num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def rename_densenet(name: str) -> str:
    """Return DenseNet's name as in torchvision's files."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)


def rename_vit(name: str) -> str:
    """Return ViT's name as in torchvision's files of 2022."""
    return name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")


def rename_convnext(name: str) -> str:
    """Return ConvNeXt's name as in its authors' files, which timm reads."""
    name = re.sub(r"stages\.([0-9]+)\.downsample\.([0-9]+)", r"downsample_layers.\1.\2", name)
    name = name.replace("stem.0", "downsample_layers.0.0").replace("stem.1", "downsample_layers.0.1")
    name = re.sub(r"stages\.([0-9]+)\.blocks\.([0-9]+)", r"stages.\1.\2", name)
    name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
    return name.replace("head.fc.", "head.").replace("head.norm.", "norm.")


def rename_swin(name: str) -> str:
    """Return Swin's name as in RobustBench's files, which the timm of 2022 wrote."""
    name = re.sub(r"layers\.(\d)\.downsample", lambda stage: f"layers.{int(stage[1]) - 1}.downsample", name)
    return name.replace("head.fc.", "head.")


@pytest.mark.parametrize(
    ("architecture", "rename", "prefix"),
    [
        ("torchvision/densenet121", rename_densenet, "model.module."),
        ("torchvision/mnasnet1_0", str, ""),
        ("timm/convnext_atto", rename_convnext, ""),
        ("timm/convnext_atto", rename_convnext, "module."),
        ("timm/swin_tiny_patch4_window7_224", rename_swin, "model."),
    ],
)
def test_published_names_are_read(architecture: str, rename: Callable[[str], str], prefix: str, tmp_path: Path) -> None:
    """A file with the names that its library published, with or without a prefix, gives the same network as today's names."""
    spec = make_colour_spec(architecture)
    torch.manual_seed(0)
    classifier = build(spec)
    names = {name: prefix + rename(name) for name in classifier.backbone.state_dict()}
    assert rename is str or any(old != prefix + new for new, old in names.items())
    torch.save({names[name]: t for name, t in classifier.backbone.state_dict().items()}, tmp_path / "w")
    assert digest(read_classifier(tmp_path / "w", spec)) == digest(classifier)


def test_torchvisions_own_renaming_is_used() -> None:
    """Small networks of torchvision's DenseNet and ViT read the published names, each tensor under its own."""
    models = torchvision.models
    transformer = models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)
    for network, rename in [(models.DenseNet(4, (2, 2), 8), rename_densenet), (transformer, rename_vit)]:
        state = network.state_dict()
        assert sum(rename(name) != name for name in state) >= 8
        current = rename_to_current({rename(name): tensor for name, tensor in state.items()}, network)
        counters = {name for name in state if name.endswith("num_batches_tracked")}  # which published files lack
        assert all(current[name] is state[name] for name in state.keys() - counters)


@pytest.mark.parametrize(
    ("missing", "extra"), [("denseblock1.denselayer1.norm.1.weight", None), (None, "norm.3.weight")]
)
def test_published_names_are_checked_as_strictly(missing: str | None, extra: str | None, tmp_path: Path) -> None:
    """After renaming, a missing or an additional tensor is refused by name."""
    state: dict[str, Tensor] = build(make_colour_spec("torchvision/densenet121")).backbone.state_dict()
    content = {
        rename_densenet(name): tensor
        for name, tensor in state.items()
        if missing is None or not rename_densenet(name).endswith(missing)
    }
    if extra:
        content[f"features.denseblock1.denselayer1.{extra}"] = torch.ones(3)
    assert len(content) == len(state) + (1 if extra else -1)
    torch.save(content, tmp_path / "w")
    reason = "1 keys are missing: features.denseblock1.denselayer1.norm1.weight" if missing else "1 keys are unexpected"
    with pytest.raises(WeightsMismatch, match=reason):
        read_classifier(tmp_path / "w", make_colour_spec("torchvision/densenet121"))


def test_no_library_recomputes_weights(tmp_path: Path) -> None:
    """Positions for another image size, which timm would interpolate, do not fit: weights are never recomputed silently."""
    spec = make_colour_spec("timm/deit_tiny_patch16_224")
    state = dict(build(spec).backbone.state_dict())
    torch.save(state | {"pos_embed": torch.zeros(1, 1 + 24 * 24, 192)}, tmp_path / "w")
    with pytest.raises(
        WeightsMismatch, match=r"of another shape or type: pos_embed \(1, 577, 192\) for \(1, 197, 192\)"
    ):
        read_classifier(tmp_path / "w", spec)


@pytest.mark.parametrize("architecture", ["small_resnet", "preact_resnet18", "torchvision/squeezenet1_1"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_one_mean_serves_all_channels(architecture: str, channels: int, tmp_path: Path) -> None:
    """With a single mean and std, or none at all, the weights decide the number of channels."""
    spec = ClassifierSpec(architecture=architecture, num_classes=3, mean=(0.5,) * channels, std=(0.25,) * channels)
    classifier = build(spec)
    torch.save(classifier.backbone.state_dict(), tmp_path / "w")
    read = read_classifier(
        tmp_path / "w", ClassifierSpec(architecture=architecture, num_classes=3, mean=(0.5,), std=(0.25,))
    )
    assert (read.spec, digest(read)) == (spec, digest(classifier))
    plain = read_classifier(tmp_path / "w", ClassifierSpec(architecture=architecture, num_classes=3))
    assert (plain.spec.mean, plain.spec.std) == ((0.0,) * channels, (1.0,) * channels)
    x = torch.rand(2, channels, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain(x), plain.backbone(x))


def test_one_mean_fits_a_file_of_equal_means(tmp_path: Path) -> None:
    """A file with stored means is read with one mean where all are equal to it, and keeps its class names."""
    spec = make_colour_spec("small_resnet").model_copy(update={"class_names": ("a", "b", "c")})
    write_classifier(tmp_path / "w", build(spec))
    own_spec = ClassifierSpec(architecture="small_resnet", num_classes=3)
    assert read_classifier(tmp_path / "w", own_spec).spec == spec
    with pytest.raises(WeightsMismatch, match="mean"):
        read_classifier(tmp_path / "w", own_spec.model_copy(update={"mean": (0.5,)}))


@pytest.mark.parametrize(("means", "weights"), [(3, 1), (3, 4), (2, 3)])
def test_the_error_for_means_of_other_channels_states_both(means: int, weights: int, tmp_path: Path) -> None:
    """If the number of several means differs from the weights' channels, the error states both numbers and the remedy."""
    spec = make_colour_spec("small_resnet").model_copy(update={"mean": (0.0,) * weights, "std": (1.0,) * weights})
    torch.save(build(spec).backbone.state_dict(), tmp_path / "w")
    own_spec = spec.model_copy(update={"mean": (0.0,) * means, "std": (1.0,) * means})
    with pytest.raises(
        WeightsMismatch, match=f"take images of {weights} channels.* mean has {means} values.*std {weights} value"
    ):
        read_classifier(tmp_path / "w", own_spec)
