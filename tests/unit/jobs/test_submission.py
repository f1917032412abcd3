"""The check that a model fits a data set, by their numbers."""

from typing import Any

import pytest

from faal_core.errors import InvalidSpec
from jobs.submission import require_fit

SUMMARY = {"shape": [3, 32, 32], "class_names": ["a", "b"], "images": {"test": 10}}


def spec(classes: int, channels: int, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the fields of a stored classifier of that many classes and channels."""
    return {"num_classes": classes, "mean": [0.5] * channels, "class_names": names}


def test_what_fits_is_let_through() -> None:
    """Equal numbers of classes and channels fit, by the catalog or by the summary of an upload."""
    require_fit(spec(10, 1), "fashion-mnist-subset", None, training=True)
    require_fit(spec(2, 3), "dataset_1", SUMMARY, training=False)
    require_fit(spec(2, 3), "dataset_1", SUMMARY | {"images": {"test": 10, "train": 10}}, training=True)


def test_a_data_set_may_lack_classes() -> None:
    """A data set of some of the classifier's classes fits if names, or numbers as names, identify them."""
    fields = spec(3, 3, ("A", "B", "c"))
    require_fit(fields, "dataset_1", SUMMARY, training=False)
    require_fit(spec(3, 3), "dataset_1", SUMMARY | {"class_names": ["0", "2"]}, training=False)
    with pytest.raises(InvalidSpec, match=r"2 classes .* has 3"):
        require_fit(spec(2, 3), "dataset_1", SUMMARY | {"class_names": ["0", "1", "2"]}, training=False)


def test_long_numbers_as_names_are_compared() -> None:
    """A stored classifier with a class name of 5,000 digits is compared like any other."""
    fields = spec(3, 3, ("1" * 5000, "a", "b"))
    require_fit(fields, "dataset_1", SUMMARY, training=False)


@pytest.mark.parametrize(
    ("classes", "channels", "dataset", "training", "message"),
    [
        (43, 1, "fashion-mnist-subset", False, "43 classes .* fashion-mnist-subset has 10"),
        (10, 3, "fashion-mnist-subset", False, "3 channels .* have 1"),
        (3, 3, "dataset_1", False, "3 classes .* dataset_1 has 2"),
        (2, 1, "dataset_1", False, "1 channels .* have 3"),
        (2, 3, "dataset_1", True, "no training part"),
    ],
)
def test_what_cannot_fit_is_refused(classes: int, channels: int, dataset: str, training: bool, message: str) -> None:
    """Other classes, other channels and a missing training part are refused with both sides named."""
    summary = SUMMARY if dataset == "dataset_1" else None
    with pytest.raises(InvalidSpec, match=message):
        require_fit(spec(classes, channels), dataset, summary, training=training)
