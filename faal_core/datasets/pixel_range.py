"""Check that float pixels are in [0, 1]; otherwise the message suggests the likely scale."""

import torch
from torch import Tensor

from faal_core.datasets.mapped_images import FileMapping, ImageArray, iterate_pieces, write_temporary
from faal_core.errors import DatasetInvalid

_TOLERANCE = 1e-3  # a quarter of one of 255 levels: rounding of float16 and of resizing, no other scale


def clip_to_unit_range(images: Tensor, source: str, mapping: FileMapping | None = None) -> ImageArray:
    """Return float images with all pixels in [0, 1], with a note if rounding errors were clipped.

    Args:
        mapping: of the file that holds the images, if one does; then clipped images are in a temporary file.

    Raises: DatasetInvalid for NaN, infinity, and any other range; the message suggests a rescaling where it can.
    """
    if all(bool(((piece >= 0) & (piece <= 1)).all()) for piece in iterate_pieces(images, mapping)):
        return ImageArray(images, mapping)
    for name, find in (("NaN", torch.isnan), ("infinite", torch.isinf)):
        bad = [find(piece).flatten(1).sum(1) for piece in iterate_pieces(images, mapping)]
        if len(rows := torch.cat(bad).nonzero()):
            raise DatasetInvalid(
                f"{source}: {int(torch.cat(bad).sum()):,} of {images.numel():,} pixel values are {name}, the first in image "
                f"{int(rows[0])}; remove or repair such images"
            )
    low = min(piece.min().item() for piece in iterate_pieces(images, mapping))
    high = max(piece.max().item() for piece in iterate_pieces(images, mapping))
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise DatasetInvalid(
            f"{source}: pixels must be in [0, 1], but these span {low:.4g} to {high:.4g}; {_advise_rescaling(low, high)}"
        )
    changed = sum(int(((piece < 0) | (piece > 1)).sum()) for piece in iterate_pieces(images, mapping))
    notes = (f"{changed:,} pixel values outside [0, 1] by at most {_TOLERANCE:g} were clipped.",)
    if mapping is None:
        return ImageArray(images.clamp(0, 1), notes=notes)
    pieces = (piece.clamp(0, 1) for piece in iterate_pieces(images, mapping))
    clipped = write_temporary(pieces, tuple(images.shape), images.dtype, mapping.folder)
    return ImageArray(clipped.images, clipped.mapping, notes)


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


def require_levels(array: ImageArray, source: str) -> None:
    """Check that uint8 images have levels other than 0 and 1, which is what a cast of floats in [0, 1] leaves.

    Entirely black images pass here; `data_warnings` reports them. Raises: DatasetInvalid.
    """
    if array.images.dtype != torch.uint8 or not array.images.numel():
        return
    highest = 0
    for piece in iterate_pieces(array.images, array.mapping):
        highest = max(highest, int(piece.max()))
        if highest > 1:  # the first piece of usual images
            return
    if highest == 1:
        raise DatasetInvalid(
            f"{source}: images are uint8 with the levels 0 and 1 alone, nearly black. If floats in [0, 1] were cast to uint8, "
            "store the floats, or (255 * images).round() as uint8; if 1 means white, store 255 * images."
        )
