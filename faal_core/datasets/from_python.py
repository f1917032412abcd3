"""Images as a caller in Python has them: arrays, a data set or a data loader of PyTorch, or labelled images."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from faal_core.classifier import Classifier
from faal_core.datasets.arrays import Array, label_arrays
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.loaders import collect
from faal_core.errors import InvalidSpec


def label_images(
    images: Array | LabelledImages | Dataset[Any] | DataLoader[Any],
    labels: Array | None,
    classifier: Classifier,
    *,
    part: Part = "test",
    class_names: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str | int]] | None = None,
    name: str | None = None,
) -> LabelledImages:
    """Return the images with their labels, for a classifier that takes them.

    Class names are those given here, the data set's own (`classes`), the classifier's, or the labels' numbers.

    Raises: InvalidSpec for arguments that do not go together; DatasetInvalid for images or labels.
    """
    if isinstance(images, LabelledImages):
        _require_absent("LabelledImages", labels=labels, class_names=class_names, groups=groups, name=name)
        return images
    own_names: Sequence[str] | None = None
    default_name = "images"
    if isinstance(images, Dataset | DataLoader):
        _require_absent("a Dataset or DataLoader", labels=labels)
        dataset = images.dataset if isinstance(images, DataLoader) else images
        default_name, own_names = type(dataset).__name__, _read_class_names(dataset)
        images, labels = collect(images)
    if labels is None:
        raise InvalidSpec("The images have no labels. Pass labels, one for each image, or a Dataset or DataLoader.")
    if own_names is not None and len(own_names) != classifier.num_classes:
        own_names = None
    numbers = [str(c) for c in range(classifier.num_classes)]
    names = class_names or own_names or classifier.spec.class_names or numbers
    return label_arrays(images, labels, names, name=name or default_name, part=part, groups=groups)


def _require_absent(kind: str, **arguments: object) -> None:
    """Check that none of the arguments is given. Raises: InvalidSpec."""
    if given := [name for name, value in arguments.items() if value is not None]:
        raise InvalidSpec(f"{kind} has its own {' and '.join(given)}: leave {'it' if len(given) == 1 else 'them'} out.")


def _read_class_names(dataset: Dataset[Any]) -> list[str] | None:
    """Return the names in the data set's attribute `classes`, as torchvision's data sets have it; None without such names."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return list(names)
    return None
