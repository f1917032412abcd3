"""The files that the catalog's data sets are read from."""

import inspect
from pathlib import Path

import pytest

from faal_core import catalog
from faal_core.catalog import dataset_files
from faal_core.datasets import torchvision_sets
from faal_core.torchvision_import import torchvision

TORCHVISION = {
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
    "mnist": torchvision.datasets.MNIST,
    "fashion-mnist": torchvision.datasets.FashionMNIST,
    "svhn": torchvision.datasets.SVHN,
    "gtsrb": torchvision.datasets.GTSRB,
    "stl10": torchvision.datasets.STL10,
}


def test_every_data_set_that_torchvision_reads_has_its_files_listed() -> None:
    """The catalog lists files for the data sets that torchvision reads, and for no others."""
    read = {name for name, entry in catalog.datasets().items() if entry.builder.startswith(torchvision_sets.__name__)}
    assert set(dataset_files.FILES) == read == set(TORCHVISION)


@pytest.mark.parametrize("name", list(TORCHVISION))
def test_the_files_are_those_that_torchvision_looks_for(name: str) -> None:
    """Every part of each path appears in torchvision's own code, or is the name of its class."""
    code = "".join(inspect.getsource(kind) for kind in TORCHVISION[name].__mro__ if "torchvision" in kind.__module__)
    parts = {part for file in dataset_files.FILES[name] for part in Path(file).parts}
    assert all(part in code or part == TORCHVISION[name].__name__ for part in parts)


def test_missing_files_are_listed(tmp_path: Path) -> None:
    """With one of two files the other is missing; without a folder all are missing; bundled files are never missing."""
    (tmp_path / "train_32x32.mat").touch()
    assert dataset_files.list_missing("svhn", tmp_path) == ("test_32x32.mat",)
    assert dataset_files.list_missing("svhn", None) == ("train_32x32.mat", "test_32x32.mat")
    assert dataset_files.list_missing("fashion-mnist-subset", None) == ()
