"""List the architectures that `faal_core.networks` defines."""

from types import MappingProxyType

from faal_core.catalog.entries import ArchitectureEntry, ArgumentRange
from faal_core.catalog.onnx_format import ONNX

_WIDE = "Zagoruyko and Komodakis 2016; key names of TRADES and RobustBench"
_DM = "Gowal et al. 2020 and Rebuffi et al. 2021, with SiLU; key names of DeepMind and RobustBench"
_RESNET = "He et al. 2016; key names of RobustBench"
_XCIT = "Debenedetti et al. 2023; key names of timm and RobustBench; needs the extra `timm`"
_STEM = "Singh et al. 2023; key names of RobustBench; needs the extra `timm`"


def _entry(name: str, title: str, source: str, builder: str, variant: str | None = None) -> ArchitectureEntry:
    """Return an entry without arguments, whose builder is in `faal_core.networks`."""
    return ArchitectureEntry(name, title, source, f"faal_core.networks.{builder}", variant=variant)


OWN_ARCHITECTURES = [
    ArchitectureEntry(
        "small_resnet",
        "Small residual network with batch-norm, three stages, any image size",
        "He et al. 2016 (pre-activation), this project",
        "faal_core.networks.small_resnet:small_resnet",
        MappingProxyType(
            {"width": ArgumentRange(8, 64, 16), "blocks": ArgumentRange(1, 4, 1), "stem_stride": ArgumentRange(1, 2, 1)}
        ),
    ),
    _entry(
        "preact_resnet18",
        "PreActResNet-18 for 32 × 32 images",
        "He et al. 2016; key names of Bag of Tricks for AT (Pang et al. 2021) and RobustBench",
        "preact_resnet:preact_resnet18",
    ),
    _entry(
        "preact_resnet18_plain",
        "PreActResNet-18 for 32 × 32 images without the last batch-norm, with shortcuts of the input itself",
        "Wong et al. 2020; key names of RobustBench",
        "preact_resnet:plain_preact_resnet18",
    ),
    *(
        _entry(
            f"cifar_resnet{depth}", f"ResNet-{depth} for 32 × 32 images", _RESNET, "cifar_resnet:cifar_resnet", depth
        )
        for depth in ("18", "34", "50")
    ),
    *(
        _entry(f"wrn_{size.replace('-', '_')}", f"Wide ResNet {size}", _WIDE, "wide_resnet:wide_resnet", size)
        for size in ("28-10", "34-10", "34-15", "34-20", "40-2", "70-16")
    ),
    _entry("wrn_34_r", "Wide ResNet 34-R", "Huang et al. 2021; key names of RobustBench", "wide_resnet:wrn_34_r"),
    _entry("wrn_a4", "Wide ResNet A4", "Huang et al. 2023; key names of RobustBench", "wide_resnet:wrn_a4"),
    *(
        _entry(
            f"dm_wrn_{size.replace('-', '_')}", f"Wide ResNet {size} with SiLU", _DM, "dm_networks:dm_wide_resnet", size
        )
        for size in ("28-10", "34-10", "34-20", "70-16", "82-8", "94-16", "106-16")
    ),
    _entry("dm_preact_resnet18", "PreActResNet-18 with SiLU for 32 × 32 images", _DM, "dm_networks:dm_preact_resnet18"),
    *(
        _entry(
            f"xcit_{size}_p{side}",
            f"XCiT-{size.upper()} with patches of {side} × {side}, for {image} images",
            _XCIT,
            "robust_transformers:xcit",
            f"{size}-{side}",
        )
        for side, image in (("16", "224 × 224"), ("4", "32 × 32"))
        for size in ("s12", "m12", "l12")
    ),
    *(
        _entry(
            f"{name}_convstem",
            f"{title} with a stem of convolutions, for 224 × 224 images",
            _STEM,
            f"robust_transformers:{builder}",
            variant,
        )
        for name, title, builder, variant in (
            ("convnext_tiny", "ConvNeXt-T", "convnext_conv_stem", "convnext_tiny"),
            ("convnext_small", "ConvNeXt-S", "convnext_conv_stem", "convnext_small"),
            ("convnext_base", "ConvNeXt-B", "convnext_conv_stem", "convnext_base"),
            ("convnext_large", "ConvNeXt-L", "convnext_conv_stem", "convnext_large"),
            ("vit_small", "ViT-S", "vit_conv_stem", "deit_small_patch16_224"),
            ("vit_base", "ViT-B", "vit_conv_stem", "vit_base_patch16_224"),
        )
    ),
    ArchitectureEntry(
        ONNX,
        "A network that comes as an ONNX file, for audits",
        "the file; needs the extra `onnx`",
        "faal_core.networks.onnx.graph:refuse_name",
    ),
]
