"""List the files of torchvision's data sets in the catalog, so that a missing one is found without importing torch.

Only the names are checked: whether a file is whole shows when it is loaded. Data sets that are not listed here bring
their own files.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_IDX = ("raw/train-images-idx3-ubyte", "raw/t10k-images-idx3-ubyte")

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cifar10": ("cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"),
        "cifar100": ("cifar-100-python/train", "cifar-100-python/test"),
        "mnist": tuple(f"MNIST/{file}" for file in _IDX),
        "fashion-mnist": tuple(f"FashionMNIST/{file}" for file in _IDX),
        "svhn": ("train_32x32.mat", "test_32x32.mat"),
        "gtsrb": ("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        "stl10": ("stl10_binary/train_X.bin", "stl10_binary/test_X.bin"),
    }
)
"""By the data set's name, relative to the folder that torchvision calls `root`."""


def list_missing(name: str, root: Path | None) -> tuple[str, ...]:
    """Return the files of that data set that are not in the folder; all of them where there is no folder."""
    return tuple(file for file in FILES.get(name, ()) if root is None or not (root / file).exists())
