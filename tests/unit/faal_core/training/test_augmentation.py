"""Test the augmentations: crops and mirrored images."""

import pytest
import torch

from faal_core import catalog
from faal_core.datasets import load
from faal_core.training.augmentation import augment


def test_every_image_is_a_window_of_its_padded_self() -> None:
    """Each result is a crop of the zero-padded image, mirrored or not; both occur over many images."""
    x = torch.rand(200, 2, 16, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = augment(x, "crop-flip", torch.Generator().manual_seed(1))
    canvas = torch.nn.functional.pad(x, (1, 1, 2, 2))
    mirror_count = 0
    for i in range(len(x)):
        windows = [canvas[i, :, row : row + 16, column : column + 8] for row in range(5) for column in range(3)]
        is_same = any(torch.equal(cut[i], window) for window in windows)
        is_mirror = any(torch.equal(cut[i], window.flip(-1)) for window in windows)
        assert is_same or is_mirror
        mirror_count += is_mirror
    assert 60 < mirror_count < 140


@pytest.mark.parametrize("augmentation", ["crop", "flip", "none"])
def test_each_augmentation_makes_its_own_changes_alone(augmentation: str) -> None:
    """Crops are not mirrored, mirrored images are not moved, and without augmentation images do not change."""
    x = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = augment(x, augmentation, torch.Generator().manual_seed(1))
    canvas = torch.nn.functional.pad(x, (1, 1, 1, 1))
    windows = [canvas[:, :, row : row + 8, column : column + 8] for row in range(3) for column in range(3)]
    is_window = torch.stack([(cut == window).flatten(1).all(1) for window in windows]).any(0)
    is_same, is_mirror = ((cut == one).flatten(1).all(1) for one in (x, x.flip(3)))
    if augmentation == "crop":
        assert bool(is_window.all())
        assert not bool(is_same.all())
    elif augmentation == "flip":
        assert bool((is_same | is_mirror).all())
        assert 30 < int(is_mirror.sum()) < 70
    else:
        assert bool(is_same.all())


@pytest.mark.parametrize(
    ("name", "may_be_mirrored"),
    [("mnist", False), ("svhn", False), ("gtsrb", False), ("cifar10", True), ("stl10", True)],
)
def test_digits_and_traffic_signs_are_not_mirrored(name: str, may_be_mirrored: bool) -> None:
    """Only photographs of things are mirrored by default, because a mirrored digit or sign has another meaning."""
    assert ("flip" in (catalog.dataset(name).augmentation or "none")) == may_be_mirrored


def test_a_data_set_carries_its_augmentation() -> None:
    """A named data set, and a subset of it, has the augmentation of the catalog."""
    data = load("fashion-mnist-subset", "train")
    assert data.augmentation == catalog.dataset("fashion-mnist-subset").augmentation
    assert data.take(data.stratified(10, 0)).summarise().augmentation == data.augmentation
