"""List architectures, data sets and attack presets by name, each with its source and builder.

Names are bound to builders by dotted path: our own constants, never user input. A site adds architectures and data sets
through the entry points `faal.architectures` and `faal.datasets`, which its administrator installs. They are listed
without being imported.
"""

import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal

from faal_core.errors import UnknownName

Augmentation = Literal["none", "crop", "flip", "crop-flip"]
"""Random changes of training images: crops after padding, mirroring left to right, both, or none."""


@dataclass(frozen=True, slots=True)
class ArgumentRange:
    """Bounds a whole number that an architecture's builder takes."""

    low: int
    high: int
    default: int


@dataclass(frozen=True, slots=True)
class ArchitectureEntry:
    """Describes a network that can be built.

    Args:
        builder: "module:function", called with num_classes, channels and the arguments.
        variant: passed to the builder too, where one function builds several networks.
    """

    name: str
    title: str
    source: str
    builder: str
    arguments: MappingProxyType[str, ArgumentRange] = field(default_factory=lambda: MappingProxyType({}))
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """Describes a data set that can be loaded.

    Args:
        builder: "module:function", called with the part, the root folder and whether to download.
        num_classes, shape, images: 0 where they are not known; `images` counts the training and the test images.
        augmentation: changes that preserve the labels and look like the data set's images. A mirrored digit or traffic
            sign is another one, or none; the shoes of Fashion-MNIST are centred and face the same way. None leaves the
            choice to the builder's `LabelledImages`.
    """

    name: str
    title: str
    source: str
    builder: str
    num_classes: int
    shape: tuple[int, int, int]
    images: tuple[int, int] = (0, 0)  # training and test images
    augmentation: Augmentation | None = None


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """Names a sequence of attacks; `attacks` holds the fields of their specs."""

    name: str
    title: str
    attacks: tuple[dict[str, Any], ...]


def _torchvision_architectures() -> list[ArchitectureEntry]:
    names = """
        alexnet convnext_tiny convnext_small convnext_base densenet121 densenet169 efficientnet_b0 efficientnet_b1
        efficientnet_v2_s mnasnet1_0 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small resnet18 resnet34 resnet50
        resnet101 resnet152 resnext50_32x4d shufflenet_v2_x1_0 squeezenet1_1 swin_t swin_s vgg11 vgg11_bn vgg16
        vgg16_bn vit_b_16 vit_b_32 wide_resnet50_2
    """
    source = "torchvision, BSD-3-Clause"
    builder = "faal_core.networks.third_party:torchvision_classifier"
    return [
        ArchitectureEntry(f"torchvision/{name}", f"torchvision's {name}", source, builder, variant=name)
        for name in names.split()
    ]


def _timm_architectures() -> list[ArchitectureEntry]:
    names = """
        convnext_atto convnext_femto convnext_tiny deit_tiny_patch16_224 deit_small_patch16_224 efficientnet_b0
        mobilenetv3_large_100 regnety_004 resnet18 resnet26 resnet34 resnet50 vit_tiny_patch16_224
        vit_small_patch16_224 wide_resnet50_2 xcit_nano_12_p16_224 xcit_small_12_p16_224
    """
    source = "timm, Apache-2.0; needs the extra `timm`"
    builder = "faal_core.networks.third_party:timm_classifier"
    return [
        ArchitectureEntry(f"timm/{name}", f"timm's {name}", source, builder, variant=name) for name in names.split()
    ]


_OWN_ARCHITECTURES = [
    ArchitectureEntry(
        "small_resnet",
        "Small residual network with batch-norm, three stages, any image size",
        "He et al. 2016 (pre-activation), this project",
        "faal_core.networks.small_resnet:small_resnet",
        MappingProxyType({"width": ArgumentRange(8, 64, 16), "blocks": ArgumentRange(1, 4, 1)}),
    ),
    ArchitectureEntry(
        "preact_resnet18",
        "PreActResNet-18 for 32 × 32 images",
        "He et al. 2016; key names of Bag of Tricks for AT (Pang et al. 2021) and RobustBench",
        "faal_core.networks.preact_resnet:preact_resnet18",
    ),
    ArchitectureEntry(
        "wrn_28_10",
        "Wide ResNet 28-10",
        "Zagoruyko and Komodakis 2016; key names of TRADES and RobustBench",
        "faal_core.networks.wide_resnet:wrn_28_10",
    ),
    ArchitectureEntry(
        "wrn_34_10",
        "Wide ResNet 34-10",
        "Zagoruyko and Komodakis 2016; key names of TRADES and RobustBench",
        "faal_core.networks.wide_resnet:wrn_34_10",
    ),
]


def _torchvision_dataset(
    name: str,
    title: str,
    source: str,
    num_classes: int,
    shape: tuple[int, int, int],
    images: tuple[int, int],
    augmentation: Augmentation,
) -> DatasetEntry:
    builder = f"faal_core.datasets.torchvision_sets:{name.replace('-', '_')}"
    return DatasetEntry(name, title, source, builder, num_classes, shape, images, augmentation)


_FASHION_SOURCE = "Xiao, Rasul and Vollgraf 2017, MIT"
_DATASETS = [
    DatasetEntry(
        "fashion-mnist-subset",
        "Fashion-MNIST, 6,000 training and 3,000 test images, bundled",
        _FASHION_SOURCE,
        "faal_core.datasets.bundled:load",
        10,
        (1, 28, 28),
        (6_000, 3_000),
        "none",
    ),
    _torchvision_dataset("cifar10", "CIFAR-10", "Krizhevsky 2009", 10, (3, 32, 32), (50_000, 10_000), "crop-flip"),
    _torchvision_dataset("cifar100", "CIFAR-100", "Krizhevsky 2009", 100, (3, 32, 32), (50_000, 10_000), "crop-flip"),
    _torchvision_dataset("mnist", "MNIST", "LeCun et al. 1998", 10, (1, 28, 28), (60_000, 10_000), "crop"),
    _torchvision_dataset("fashion-mnist", "Fashion-MNIST", _FASHION_SOURCE, 10, (1, 28, 28), (60_000, 10_000), "none"),
    _torchvision_dataset(
        "svhn", "Street View House Numbers, cropped", "Netzer et al. 2011", 10, (3, 32, 32), (73_257, 26_032), "crop"
    ),
    _torchvision_dataset(
        "gtsrb",
        "German Traffic Signs, scaled to 32 × 32",
        "Stallkamp et al. 2012",
        43,
        (3, 32, 32),
        (26_640, 12_630),
        "crop",
    ),
    _torchvision_dataset("stl10", "STL-10", "Coates, Ng and Lee 2011", 10, (3, 96, 96), (5_000, 8_000), "crop-flip"),
]

_CROSS_ENTROPY, _MARGIN = {"type": "pgd", "loss": "cross-entropy"}, {"type": "pgd", "loss": "margin"}

PRESETS = {
    entry.name: entry
    for entry in [
        PresetEntry(
            "quick",
            "PGD-10 with the cross-entropy: the shortest first look",
            ({**_CROSS_ENTROPY, "steps": 10},),
        ),
        PresetEntry(
            "pgd-20",
            "PGD-20 with the cross-entropy (the published column), then with the margin loss: a first look, the default",
            ({**_CROSS_ENTROPY, "steps": 20}, {**_MARGIN, "steps": 20}),
        ),
        PresetEntry(
            "pgd-100",
            "PGD-100 with both losses and two restarts each: a longer first look; fast is stronger",
            ({**_CROSS_ENTROPY, "steps": 100, "restarts": 2}, {**_MARGIN, "steps": 100, "restarts": 2}),
        ),
        PresetEntry(
            "standard",
            "AutoAttack's protocol, for numbers that compare with published ones",
            (
                {"type": "apgd", "loss": "cross-entropy"},
                {"type": "apgd", "loss": "dlr", "targets": 9},
                {"type": "fab", "targets": 9},
                {"type": "square", "queries": 5000},
            ),
        ),
        PresetEntry(
            "fast",
            "Nearly AutoAttack's strength at a fraction of its cost: short runs on all, long ones where it was close",
            (
                {"type": "apgd", "loss": "cross-entropy", "iterations": 20},
                {"type": "apgd", "loss": "probability-margin", "iterations": 50},
                {"type": "apgd", "loss": "dlr", "targets": 3, "iterations": 30},
                {"type": "apgd", "loss": "dlr", "targets": 9, "iterations": 50, "margin_left": 0.35},
                {"type": "apgd", "loss": "dlr", "targets": 9, "iterations": 100, "margin_left": 0.05},
                {"type": "square", "queries": 2500, "margin_left": 0.05},
            ),
        ),
    ]
}

_PRESETS_BY_LETTERS = {
    **{name.replace("-", ""): name for name in PRESETS},
    **dict.fromkeys(("autoattack", "aa", "autoattackstandard"), "standard"),
}


def architectures() -> dict[str, ArchitectureEntry]:
    """Return every architecture by name, including those installed at this site."""
    entries = [*_OWN_ARCHITECTURES, *_torchvision_architectures(), *_timm_architectures()]
    known = {entry.name: entry for entry in entries}
    for point in _read_entry_points("faal.architectures", tuple(sys.path)):
        known.setdefault(point.name, ArchitectureEntry(point.name, point.name, "installed at this site", point.value))
    return known


@cache
def _read_entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the site's entry points; cached per search path, because reading every package's metadata takes 10 ms."""
    return tuple(entry_points(group=group))


def architecture(name: str) -> ArchitectureEntry:
    """Return the architecture of that name. Raises: UnknownName."""
    known = architectures()
    if name not in known:
        raise UnknownName.suggest("architecture", name, list(known))
    return known[name]


def datasets() -> dict[str, DatasetEntry]:
    """Return every named data set, including those installed at this site."""
    known = {entry.name: entry for entry in _DATASETS}
    for point in _read_entry_points("faal.datasets", tuple(sys.path)):
        entry = DatasetEntry(point.name, point.name, "installed at this site", point.value, 0, (0, 0, 0))
        known.setdefault(point.name, entry)
    return known


def dataset(name: str) -> DatasetEntry:
    """Return the data set of that name. Raises: UnknownName."""
    known = datasets()
    if name not in known:
        raise UnknownName.suggest("data set", name, list(known))
    return known[name]


def preset(name: str) -> PresetEntry:
    """Return the attack preset of that name; capitals, blanks and dashes do not matter. Raises: UnknownName."""
    letters = "".join(sign for sign in name.casefold() if sign.isalnum())
    if letters not in _PRESETS_BY_LETTERS:
        raise UnknownName.suggest("attack preset", name, list(PRESETS))
    return PRESETS[_PRESETS_BY_LETTERS[letters]]
