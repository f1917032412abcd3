"""Items and batches of a data set of PyTorch as tensors: pairs or mappings of tensors, arrays or Pillow images and labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faal_core.datasets.array_conversion import convert_images
from faal_core.datasets.arrays import as_numpy
from faal_core.datasets.image_file import Decoder
from faal_core.errors import DatasetInvalid

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "fine_label", "y")


def read_item(item: Any, decoder: Decoder) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - whatever a data set returns
    """Return the image of an item, `c h w`, and its label.

    Args:
        decoder: converts Pillow images and counts their conversions.
    Raises: DatasetInvalid for an item of another form.
    """
    image, label = _split(item)
    return _read_image(image, decoder), _read_labels(label)


def read_batch(batch: Any, decoder: Decoder) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - whatever a loader returns
    """Return the images of a batch, `n c h w`, and its labels. Raises: DatasetInvalid for a batch of another form."""
    images, labels = _split(batch)
    if isinstance(images, Sequence):
        tensors = [_read_image(image, decoder) for image in images]
        for tensor in tensors:
            require_one_shape(tensors[0].shape, tensor.shape)
        return torch.stack(tensors), _read_labels(labels)
    return _convert(as_numpy(images), channels_first=isinstance(images, Tensor)), _read_labels(labels)


def require_one_shape(first: Sequence[int], other: Sequence[int]) -> None:
    """Check that two images have the same shape. Raises: DatasetInvalid."""
    if first != other:
        raise DatasetInvalid(
            f"Images have several shapes: {tuple(first)} and {tuple(other)}. Bring them to one size and one number of channels "
            "in the data set's transform."
        )


def _split(item: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as above
    """Return image and label of an item, or images and labels of a batch. Raises: DatasetInvalid."""
    if isinstance(item, Mapping):
        keys = [next((key for key in keys if key in item), None) for keys in (_IMAGE_KEYS, LABEL_KEYS)]
        if None in keys:
            raise DatasetInvalid(
                f"An item of the data set has the keys {', '.join(map(str, item))}; it needs image and label."
            )
        return item[keys[0]], item[keys[1]]
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
        return item[0], item[1]
    raise DatasetInvalid(f"An item of the data set is a {type(item).__name__}; it must be a pair of image and label.")


def _read_image(image: Any, decoder: Decoder) -> Tensor:  # noqa: ANN401 - a tensor, an array or a Pillow image
    """Return the image as a tensor `c h w`. Raises: DatasetInvalid."""
    if isinstance(image, Image.Image):
        image = np.asarray(decoder.convert_to_grey_or_rgb("An image of the data set", image))
        return torch.from_numpy(np.array(image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)))
    return _convert(as_numpy(image)[np.newaxis], channels_first=isinstance(image, Tensor))[0]


def _convert(images: np.ndarray, *, channels_first: bool) -> Tensor:
    """Return the images as a tensor `n c h w`. Raises: DatasetInvalid."""
    return torch.from_numpy(convert_images(images, channels_first=channels_first))


def _read_labels(labels: Any) -> Tensor:  # noqa: ANN401 - a number, a tensor, an array or a list
    """Return the labels as a tensor. Raises: DatasetInvalid where they are no numbers."""
    try:
        numbers = as_numpy(labels)
    except (TypeError, ValueError, RuntimeError):
        numbers = np.array(None)
    if numbers.dtype.kind not in "biuf":
        raise DatasetInvalid(
            f"A label of the data set is {repr(labels)[:60]}; labels must be whole numbers from 0, in the order of the classes."
        )
    return torch.from_numpy(numbers.astype(np.int64) if numbers.dtype.kind in "iu" else np.array(numbers))
