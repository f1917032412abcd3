"""Whether a model and a data set fit each other, as far as can be told without loading either."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.schemas.resources import ClassifierBody
from faal_core import catalog
from faal_core.errors import InvalidSpec
from faal_core.specs.class_names import comparable


def require_fit(classifier: ClassifierBody, dataset: str, summary: Mapping[str, Any] | None, *, training: bool) -> None:
    """Returns when nothing speaks against it.

    Args:
        classifier: the model's.
        dataset: a name from the catalog, or an uploaded data set's id.
        summary: of the uploaded data set.
        training: whether its training part is needed.

    Raises: InvalidSpec where numbers of classes (unless names decide) or channels differ, or the training part is not there.
    """
    if summary is not None:
        classes, channels = len(summary["class_names"]), summary["shape"][0]
        if training and "train" not in summary["images"]:
            raise InvalidSpec(f"The data set {dataset} has no training part; a fine-tuning needs one.")
    else:
        entry = catalog.dataset(dataset)
        classes, channels = entry.num_classes, entry.shape[0]
        if classes == 0:  # a site's own: what it holds is known only where it is loaded
            return
    if classes != classifier.num_classes and not (summary and _among(summary["class_names"], classifier)):
        raise InvalidSpec(
            f"The model tells {classifier.num_classes} classes apart and the data set {dataset} has {classes}."
        )
    if channels != len(classifier.mean):
        raise InvalidSpec(
            f"The model takes images of {len(classifier.mean)} channels and those of {dataset} have {channels}."
        )


def _among(names: Sequence[str], classifier: ClassifierBody) -> bool:
    """Whether the data set's classes are some of the classifier's, by their names or their numbers."""
    if all(name.isdecimal() for name in names):
        return all(int(name) < classifier.num_classes for name in names)
    return {comparable(name) for name in names} <= {comparable(name) for name in classifier.class_names or ()}
