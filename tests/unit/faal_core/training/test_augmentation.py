"""Crop and mirror."""

import pytest
import torch

from faal_core import catalog
from faal_core.datasets import load
from faal_core.training.augmentation import augment


def test_every_image_is_a_window_of_its_padded_self() -> None:
    """Each result equals some crop of the zero-padded image, mirrored or not; over many images both occur."""
    x = torch.rand(200, 2, 16, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = augment(x, "crop-flip", torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (1, 1, 2, 2))
    mirrored = 0
    for i in range(len(x)):
        windows = [padded[i, :, top : top + 16, left : left + 8] for top in range(5) for left in range(3)]
        straight = any(torch.equal(cut[i], window) for window in windows)
        flipped = any(torch.equal(cut[i], window.flip(-1)) for window in windows)
        assert straight or flipped
        mirrored += flipped
    assert 60 < mirrored < 140


@pytest.mark.parametrize("augmentation", ["crop", "flip", "none"])
def test_what_was_not_asked_for_is_not_done(augmentation: str) -> None:
    """A crop is never mirrored, a mirrored image never moved, and without augmentation nothing changes."""
    x = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = augment(x, augmentation, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    windows = [padded[:, :, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    straight = torch.stack([(cut == window).flatten(1).all(1) for window in windows]).any(0)
    untouched, mirrored = ((cut == one).flatten(1).all(1) for one in (x, x.flip(3)))
    if augmentation == "crop":
        assert bool(straight.all())
        assert not bool(untouched.all())
    elif augmentation == "flip":
        assert bool((untouched | mirrored).all())
        assert 30 < int(mirrored.sum()) < 70
    else:
        assert bool(untouched.all())


@pytest.mark.parametrize(
    ("name", "mirrored"), [("mnist", False), ("svhn", False), ("gtsrb", False), ("cifar10", True), ("stl10", True)]
)
def test_digits_and_traffic_signs_are_not_mirrored(name: str, mirrored: bool) -> None:
    """A mirrored digit or sign means something else, so that by default only photographs of things are mirrored."""
    assert ("flip" in (catalog.dataset(name).augmentation or "none")) == mirrored


def test_a_data_set_carries_its_augmentation() -> None:
    """Loaded by name, images carry what the catalog says; so does a part of them."""
    data = load("fashion-mnist-subset", "train")
    assert data.augmentation == catalog.dataset("fashion-mnist-subset").augmentation
    assert data.take(data.stratified(10, 0)).summarise().augmentation == data.augmentation
