"""Images as a caller in Python has them: arrays, a data set or a data loader of PyTorch, or labelled images."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from faal_core.classifier import Classifier
from faal_core.datasets.arrays import Array, label_arrays
from faal_core.datasets.image_file import Decoder
from faal_core.datasets.items import LABEL_KEYS
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.loaders import collect
from faal_core.errors import DatasetInvalid, InvalidSpec


class Items(Protocol):
    """A list of pairs of image and label, or another data set with a length, such as those of Hugging Face."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Any: ...  # noqa: ANN401 - a pair or a mapping


ImageData = Array | tuple[Array, Array] | LabelledImages | Dataset[Any] | DataLoader[Any] | Items


def label_images(
    images: ImageData,
    labels: Array | None,
    classifier: Classifier,
    *,
    part: Part = "test",
    class_names: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str | int]] | None = None,
    name: str | None = None,
) -> LabelledImages:
    """Return the images with their labels, for a classifier that takes them.

    Class names are those given here, the data set's own, the classifier's, or the labels' numbers. `match_classes`
    compares the data set's with the classifier's.

    Args:
        class_names: a list, an array or a column of a table.
        groups: a mapping or a table of columns.
    Raises: InvalidSpec for arguments that do not go together; DatasetInvalid for images or labels.
    """
    if isinstance(images, LabelledImages):
        _require_absent("LabelledImages", labels=labels, class_names=class_names, groups=groups, name=name)
        return images
    names, columns = _read_names(class_names), _read_columns(groups)
    default_name, decoder = "images", Decoder()
    if labels is None and isinstance(images, tuple) and len(images) == 2:
        images, labels = images
    elif isinstance(images, Dataset | DataLoader) or (labels is None and _has_items(images)):
        _require_absent("a Dataset or DataLoader", labels=labels)
        dataset = images.dataset if isinstance(images, DataLoader) else images
        names = names or _find_class_names(dataset)
        default_name = default_name if isinstance(dataset, Sequence) else type(dataset).__name__
        images, labels = collect(images, decoder)
    if labels is None:
        raise InvalidSpec("The images have no labels. Pass labels, one for each image, or a Dataset or DataLoader.")
    return label_arrays(
        images,  # type: ignore[arg-type]  # data sets are collected above
        labels,
        names or classifier.spec.class_names or [str(c) for c in range(classifier.num_classes)],
        name=name or default_name,
        part=part,
        groups=columns,
        preparation=decoder.notes,
    )


def _require_absent(kind: str, **arguments: object) -> None:
    """Check that none of the arguments is given. Raises: InvalidSpec."""
    if given := [name for name, value in arguments.items() if value is not None]:
        raise InvalidSpec(f"{kind} has its own {' and '.join(given)}. Leave out the argument {' and '.join(given)}.")


def _has_items(data: object) -> bool:
    """Return whether the object is a data set with a length and items, and neither an array nor a mapping."""
    return (
        hasattr(data, "__len__")
        and hasattr(data, "__getitem__")
        and not (hasattr(data, "__array__") or isinstance(data, str | bytes | Mapping))
    )


def _read_names(names: Any) -> list[str] | None:  # noqa: ANN401 - whatever a caller passes
    """Return the class names as a list. Raises: InvalidSpec where they are not several names in an order."""
    if names is None:
        return None
    values = (
        [] if isinstance(names, str | bytes | Mapping | AbstractSet) or not isinstance(names, Iterable) else list(names)
    )
    if not values or not all(isinstance(value, str | int | np.integer) for value in values):
        raise InvalidSpec(
            f"class_names is {str(names)[:60]!r}; pass a list with the name of each class, in the order of the labels."
        )
    return [str(value) for value in values]


def _read_columns(groups: Any) -> dict[str, Any] | None:  # noqa: ANN401 - as above
    """Return the groups of each column of a mapping or of a table. Raises: InvalidSpec for other values."""
    if groups is None:
        return None
    columns = getattr(groups, "columns", groups)  # a table of pandas or polars has columns
    if columns is groups and not isinstance(groups, Mapping):
        raise InvalidSpec(
            f"groups is a {type(groups).__name__}; pass a mapping of each column's name to the group of each image."
        )
    return {str(column): groups[column] for column in columns}


def _find_class_names(dataset: Any) -> list[str] | None:  # noqa: ANN401 - of several libraries
    """Return the class names of the data set or of those that it wraps.

    torchvision's data sets have them in `classes`, those of Hugging Face in the label's entry of `features`.

    Returns: None without such names.
    Raises: DatasetInvalid where data sets with different names are joined.
    """
    features = getattr(dataset, "features", None)
    label = (
        next((features[key] for key in LABEL_KEYS if key in features), None) if isinstance(features, Mapping) else None
    )
    names = getattr(dataset, "classes", getattr(label, "names", None))
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return list(names) or None
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    names_of_each = [_find_class_names(one) for one in inner if one is not None]
    if any(names != names_of_each[0] for names in names_of_each[1:]):
        raise DatasetInvalid(
            "The data sets that are joined have different class names, so the same label means different classes. Pass data "
            "sets with the same classes in the same order, or class_names."
        )
    return names_of_each[0] if names_of_each else None
