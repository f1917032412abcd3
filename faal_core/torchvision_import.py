"""Import torchvision beside any build of torch: `from faal_core.torchvision_import import torchvision`.

PyPI's torchvision is compiled for CUDA. Beside a CPU build of torch its library of operators does not load, and the
import fails with "operator torchvision::nms does not exist", because it describes two operators that are missing.
This project does not call them (they merge the boxes of detectors), so declaring their signatures first is enough.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _can_load_operators() -> bool:
    """Return whether torchvision's compiled operators load into this torch; the search is torchvision's own.

    Raises: ModuleNotFoundError where torchvision is not installed.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("torchvision is not installed. Run pip install 'faal[torch]'")
    try:
        for library in Path(package.origin).parent.glob("_C*.*"):  # `_C` before version 0.29, `_C_stable` since
            torch.ops.load_library(library)
            return True
    except OSError:
        return False
    return False


if not _can_load_operators():
    _declarations = torch.library.Library("torchvision", "DEF")
    for _signature in _SIGNATURES:
        _declarations.define(_signature)

import torchvision  # noqa: E402 - after the declarations

__all__ = ["torchvision"]
