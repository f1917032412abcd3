"""Convert NumPy arrays of images, labels and groups to the types and shapes that the library computes with.

The files of strangers and the arrays of a caller follow the same rules.
"""

import numpy as np

from faal_core.datasets.grouping import Grouping
from faal_core.errors import DatasetInvalid
from faal_core.specs import MAX_CLASSES
from faal_core.specs.classifier import MAX_CHANNELS


def convert_images(images: np.ndarray, *, channels_first: bool = False) -> np.ndarray:
    """Return the images as n × c × h × w, uint8 or float32, in memory of their own.

    Args:
        channels_first: whether four axes are n, c, h and w even if the images are only a few pixels wide.
    Raises: DatasetInvalid for another type or shape.
    """
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
    if images.dtype not in (np.uint8, np.float32):
        raise DatasetInvalid(
            f"images must be uint8 levels or floats in [0, 1], not {images.dtype}; {_advise_conversion(images)}."
        )
    return move_channels_first(images, channels_first=channels_first).copy()


def move_channels_first(images: np.ndarray, *, channels_first: bool = False) -> np.ndarray:
    """Return a view of the images as n × c × h × w. Raises: DatasetInvalid for another shape."""
    if images.ndim == 3:
        return images[:, np.newaxis]
    second, last = (images.shape[1], images.shape[3]) if images.ndim == 4 else (0, 0)
    channels_last = last <= MAX_CHANNELS < second
    if not channels_last and not (1 <= second <= MAX_CHANNELS and (channels_first or last > MAX_CHANNELS)):
        raise DatasetInvalid(
            f"images must be n × h × w, n × h × w × c or n × c × h × w with 1 to {MAX_CHANNELS} channels, not of shape "
            f"{images.shape}."
        )
    return images.transpose(0, 3, 1, 2) if channels_last else images


def _advise_conversion(images: np.ndarray) -> str:
    """Return advice on how to store images of another type, by their highest level."""
    if images.dtype.kind not in "biu" or not images.size:
        return "convert them"
    highest = int(images.max())
    if images.dtype.kind == "b" or highest <= 1:
        return "store them as float32"
    return "store images.astype('uint8')" if highest <= 255 else "store images / the highest level, as float32"


def convert_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Return the labels as int64. Raises: DatasetInvalid where they are not a list of whole numbers in 0 … MAX_CLASSES - 1."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] > 1 and _is_one_hot(labels):
        raise DatasetInvalid(f"{name} are one-hot, of shape {labels.shape}; store {name}.argmax(1).")
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
        advice = f"; store {name}.astype(int)" if labels.dtype.kind in "bf" and labels.ndim == 1 else ""
        raise DatasetInvalid(
            f"{name} must be whole numbers, one per image, not {labels.dtype} of shape {labels.shape}{advice}."
        )
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise DatasetInvalid(f"{name} span {labels.min()} to {labels.max()}; they must be in 0…{MAX_CLASSES - 1}.")
    return labels.astype(np.int64)


def _is_one_hot(labels: np.ndarray) -> bool:
    """Return whether each row is a single 1 among zeros."""
    return labels.dtype.kind in "biuf" and bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def convert_groups(values: np.ndarray, column: str, count: int) -> Grouping:
    """Return the column of groups.

    Raises: DatasetInvalid where it is not a list of strings or whole numbers, one for each of `count` images.
    """
    is_valid = all(map(_is_text_or_number, values.flat)) if values.dtype.kind == "O" else values.dtype.kind in "iuU"
    if not is_valid or values.ndim != 1:
        raise DatasetInvalid(
            f"Groups of {column!r} must be strings or whole numbers, one per image, not {values.dtype} of shape {values.shape}."
        )
    if len(values) != count:
        raise DatasetInvalid(f"The column {column!r} has groups for {len(values)} of {count} images.")
    return Grouping.from_values(column, convert_to_text(values, f"The column {column!r}"))


def _is_text_or_number(value: object) -> bool:
    """Return whether the value is a string or a whole number."""
    return isinstance(value, str | int | np.integer) and not isinstance(value, bool)


def convert_to_text(values: np.ndarray, source: str) -> tuple[str, ...]:
    """Return the values as text. Raises: DatasetInvalid for code points that are no characters."""
    try:
        return tuple(str(value) for value in values)
    except (ValueError, SystemError):
        raise DatasetInvalid(f"{source} holds code points that are not characters.") from None
