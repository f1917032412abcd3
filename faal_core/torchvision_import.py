"""`torchvision`, importable beside any build of torch: `from faal_core.torchvision_import import torchvision`.

PyPI's torchvision is compiled for CUDA. Beside a CPU build of torch its library of operators does not load, and the
import ends in "operator torchvision::nms does not exist", because it describes two operators that are not there.
Nothing here calls them (they join the boxes of detectors), so declaring their signatures first is enough.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load into this torch, as torchvision itself would try."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("torchvision is not installed; pip install 'faal[torch]'")
    try:
        for library in Path(package.origin).parent.glob("_C.*"):
            torch.ops.load_library(library)
            return True
    except OSError:
        return False
    return False


if not _operators_load():
    _declarations = torch.library.Library("torchvision", "DEF")
    for _signature in _SIGNATURES:
        _declarations.define(_signature)

import torchvision  # noqa: E402 - the declarations come first

__all__ = ["torchvision"]
