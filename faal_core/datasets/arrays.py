"""Images and labels that a caller has in memory: tensors and NumPy arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from faal_core.datasets.array_conversion import convert_groups, convert_images, convert_labels
from faal_core.datasets.grouping import require_few_columns
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.mapped_images import ImageArray, iterate_pieces
from faal_core.datasets.pixel_range import require_levels

Array = Tensor | ArrayLike


def label_arrays(
    images: Array,
    labels: Array,
    class_names: Sequence[str],
    *,
    name: str,
    part: Part = "test",
    groups: Mapping[str, Sequence[str | int]] | None = None,
    preparation: tuple[str, ...] = (),
) -> LabelledImages:
    """Return arrays as labelled images, in memory of their own.

    Args:
        images: `n c h w`, `n h w c` or `n h w`, uint8 levels or floats in [0, 1]. The channels of a tensor come first even
            if its images are only a few pixels wide. Floats that are levels divided by 255 are stored as levels.
        labels: whole numbers from 0, `n` or `n 1`.
        groups: a mapping from the name of a column to the group of each image.
        preparation: one sentence for each step that made the arrays from the stored images.
    Raises: DatasetInvalid for an unsupported type, shape or range.
    """
    pixels = ImageArray(torch.from_numpy(convert_images(as_numpy(images), channels_first=isinstance(images, Tensor))))
    require_levels(pixels, name)
    numbers = convert_labels(as_numpy(labels), "labels")
    require_few_columns(list(groups or ()))
    return LabelledImages(
        images=compress(pixels.images),
        labels=torch.from_numpy(numbers),
        class_names=tuple(class_names),
        name=name,
        part=part,
        groups=tuple(
            convert_groups(np.asarray(values), column, len(pixels.images)) for column, values in (groups or {}).items()
        ),
        preparation=preparation,
    )


def as_numpy(values: Any) -> np.ndarray:  # noqa: ANN401 - whatever NumPy takes
    """Return the values as an array on the CPU; bfloat16, which NumPy lacks, as float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def compress(images: Tensor) -> Tensor:
    """Return images that are levels divided by 255, as `ToTensor` makes them, as uint8: a quarter of the memory, no loss."""
    if images.dtype != torch.float32:
        return images
    pieces = list[Tensor]()
    for piece in iterate_pieces(images, None):
        levels = (piece * 255).round().clamp(0, 255).to(torch.uint8)
        if not torch.equal(levels / 255, piece):
            return images
        pieces.append(levels)
    return torch.cat(pieces)
