"""Check that float pixels are in [0, 1]; otherwise the message suggests the likely scale."""

import numpy as np
from torch import Tensor

from faal_core.errors import DatasetInvalid

_TOLERANCE = 1e-3  # a quarter of one of 255 levels: rounding of float16 and of resizing, no other scale


def clip_to_unit_range(images: Tensor, source: str) -> tuple[Tensor, tuple[str, ...]]:
    """Return float images with all pixels in [0, 1], and a note if rounding errors were clipped.

    Raises: DatasetInvalid for NaN, infinity, and any other range; the message suggests a rescaling where it can.
    """
    if bool(((images >= 0) & (images <= 1)).all()):
        return images, ()
    for name, is_bad in (("NaN", images.isnan()), ("infinite", images.isinf())):
        if bool(is_bad.any()):
            first = int(is_bad.flatten(1).any(1).nonzero()[0])
            raise DatasetInvalid(
                f"{source}: {int(is_bad.sum()):,} of {images.numel():,} pixel values are {name}, the first in image {first}; "
                "remove or repair such images"
            )
    low, high = images.min().item(), images.max().item()
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        changed = int(((images < 0) | (images > 1)).sum())
        return images.clamp(0, 1), (f"{changed:,} pixel values outside [0, 1] by at most {_TOLERANCE:g} were clipped.",)
    raise DatasetInvalid(
        f"{source}: pixels must be in [0, 1], but these span {low:.4g} to {high:.4g}; {_advise_rescaling(low, high)}"
    )


def _advise_rescaling(low: float, high: float) -> str:
    """Return how to rescale images of that range to [0, 1], by the usual scales."""
    if -1 - _TOLERANCE <= low < 0 and high <= 1 + _TOLERANCE:
        return "for a scale of −1 to 1, store (images + 1) / 2"
    if low < 0:
        return (
            "they look normalised: leave out the normalisation (such as transforms.Normalize), which the classifier applies "
            "itself with its mean and std, or store images * std + mean"
        )
    if high <= 255:
        return "divide by 255"
    return "divide by 65535" if high <= 65535 else "divide by the highest level"


def require_levels(images: np.ndarray, source: str) -> None:
    """Check that uint8 images have levels other than 0 and 1, which is what a cast of floats in [0, 1] leaves.

    Entirely black images pass here; `data_warnings` reports them. Raises: DatasetInvalid.
    """
    if images.dtype == np.uint8 and images.size and images.max() == 1:
        raise DatasetInvalid(
            f"{source}: images are uint8 with the levels 0 and 1 alone, nearly black. If floats in [0, 1] were cast to uint8, "
            "store the floats, or (255 * images).round() as uint8; if 1 means white, store 255 * images."
        )
