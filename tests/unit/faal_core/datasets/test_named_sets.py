"""Data sets by name: the bundled one, torchvision's, and those that a site installs."""

import gzip
import hashlib
import pickle
import struct
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from faal_core import catalog, datasets
from faal_core.datasets.torchvision_sets import GTSRB_CLASSES
from faal_core.errors import DatasetMissing, UnknownName
from faal_core.torchvision_import import torchvision
from scripts.make_bundled_data import make

LEVELS = np.random.default_rng(0)


def test_the_bundled_set_is_balanced() -> None:
    """The bundled set has 600 training and 300 test images of each of ten classes, 28 × 28 grey levels, and needs no root."""
    for part, each in (("train", 600), ("test", 300)):
        data = datasets.load("fashion-mnist-subset", part)
        assert data.counts.tolist() == [each] * 10
        assert data.images.shape == (10 * each, 1, 28, 28)
        assert data.images.dtype == torch.uint8
    assert data.class_names[9] == "Ankle boot"


def test_the_bundled_set_says_where_its_images_come_from() -> None:
    """Official rows are ascending and distinct, and the first labels are those of the official files.

    Source: the first ten training labels of Fashion-MNIST are 9 0 0 3 0 2 7 2 5 5, the first ten test labels
    9 2 1 1 6 1 4 6 5 7.
    """
    with files("faal_core").joinpath("bundled/fashion_mnist_subset.npz").open("rb") as file:
        arrays = dict(np.load(file))
    for part, labels in (("train", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]), ("test", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7])):
        rows = arrays[f"{part}_rows"]
        assert (np.diff(rows) > 0).all()
        assert rows[:10].tolist() == list(range(10))
        assert arrays[f"{part}_labels"][:10].tolist() == labels


def encode_idx(array: np.ndarray) -> bytes:
    """Return the array as an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_raw_mnist(folder: Path, count: int, pack: bool = False) -> dict[str, np.ndarray]:
    """Write random images as MNIST's raw files, with every class in each part; return the arrays by file."""
    folder.mkdir(parents=True)
    arrays = {}
    for stem in ("train", "t10k"):
        arrays[f"{stem}-images-idx3-ubyte"] = LEVELS.integers(0, 256, (count, 28, 28))
        arrays[f"{stem}-labels-idx1-ubyte"] = np.arange(count) % 10
    for name, array in arrays.items():
        (folder / (f"{name}.gz" if pack else name)).write_bytes(
            gzip.compress(encode_idx(array)) if pack else encode_idx(array)
        )
    return arrays


def test_the_bundled_set_can_be_made_again(tmp_path: Path) -> None:
    """The script takes the first 600 and 300 images of each class from the official files, and stores their row numbers."""
    raw = write_raw_mnist(tmp_path / "raw", 7_000, pack=True)
    make(tmp_path / "raw", tmp_path / "made.npz")
    archive = np.load(tmp_path / "made.npz")
    assert archive["train_rows"].tolist() == list(range(6_000))
    assert archive["test_rows"].tolist() == list(range(3_000))
    assert np.array_equal(archive["test_images"], raw["t10k-images-idx3-ubyte"][:3_000])
    assert np.array_equal(archive["train_labels"], raw["train-labels-idx1-ubyte"][:6_000])


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_and_its_kin_are_read(name: str, folder: str, tmp_path: Path) -> None:
    """Images, labels and parts are those in the raw files."""
    raw = write_raw_mnist(tmp_path / folder / "raw", 20)
    for part, stem in (("train", "train"), ("test", "t10k")):
        data = datasets.load(name, part, root=tmp_path)
        assert np.array_equal(data.images[:, 0].numpy(), raw[f"{stem}-images-idx3-ubyte"])
        assert data.labels.tolist() == [*range(10)] * 2
        assert len(data.class_names) == 10


def compute_md5_entry(path: Path) -> tuple[str, str]:
    """Return file name and MD5, as torchvision lists the files it accepts."""
    return path.name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(("name", "classes", "key"), [("cifar10", 10, "labels"), ("cifar100", 100, "fine_labels")])
def test_cifar_is_read(name: str, classes: int, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the official batches, red then green then blue, become channels; class names are in label order."""
    kind = getattr(torchvision.datasets, name.upper())
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    rows = LEVELS.integers(0, 256, (classes, 3072), dtype=np.uint8)
    names = [f"class {c}" for c in range(classes)]
    (folder / "batch").write_bytes(pickle.dumps({"data": rows, key: list(range(classes))}))
    (folder / "meta").write_bytes(pickle.dumps({kind.meta["key"]: names}))
    monkeypatch.setattr(kind, "test_list", [list(compute_md5_entry(folder / "batch"))])
    monkeypatch.setattr(kind, "train_list", [])
    filename, md5 = compute_md5_entry(folder / "meta")
    monkeypatch.setattr(kind, "meta", kind.meta | {"filename": filename, "md5": md5})
    data = datasets.load(name, "test", root=tmp_path)
    assert np.array_equal(data.images.numpy(), rows.reshape(classes, 3, 32, 32))
    assert data.labels.tolist() == list(range(classes))
    assert data.class_names == tuple(names)


def test_svhn_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the .mat file become channels first; its label 10 becomes the digit 0."""
    images = LEVELS.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.arange(1, 11).reshape(-1, 1)})
    names = ["", *compute_md5_entry(tmp_path / "test_32x32.mat")]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", {"test": names})
    data = datasets.load("svhn", "test", root=tmp_path)
    assert np.array_equal(data.images.numpy(), images.transpose(3, 2, 0, 1))
    assert data.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_stl10_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the binary file, stored column by column, become upright."""
    kind = torchvision.datasets.STL10
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    images = LEVELS.integers(0, 256, (10, 3, 96, 96), dtype=np.uint8)
    (folder / "test_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
    (folder / "test_y.bin").write_bytes(bytes(range(1, 11)))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    monkeypatch.setattr(kind, "train_list", [])
    monkeypatch.setattr(
        kind, "test_list", [list(compute_md5_entry(folder / name)) for name in ("test_X.bin", "test_y.bin")]
    )
    data = datasets.load("stl10", "test", root=tmp_path)
    assert np.array_equal(data.images.numpy(), images)
    assert data.labels.tolist() == list(range(10))
    assert data.class_names == tuple("abcdefghij")


def test_gtsrb_is_read_at_one_size(tmp_path: Path) -> None:
    """Signs of different sizes are scaled to 32 × 32, and a sign of one colour keeps it."""
    images = tmp_path / "gtsrb/GTSRB/Final_Test/Images"
    images.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for c in range(len(GTSRB_CLASSES)):
        Image.new("RGB", (20 + c, 60), (c, 2 * c, 255)).save(images / f"{c:05}.ppm")
        rows.append(f"{c:05}.ppm;0;0;0;0;0;0;{c}")
    (tmp_path / "gtsrb/GT-final_test.csv").write_text("\n".join(rows))
    data = datasets.load("gtsrb", "test", root=tmp_path)
    assert data.images.shape == (43, 3, 32, 32)
    for c in (0, 14, 42):
        row = data.labels.tolist().index(c)
        assert data.images[row].flatten(1).unique(dim=1).flatten().tolist() == [c, 2 * c, 255]


@pytest.mark.parametrize("name", sorted(set(catalog.datasets()) - {"fashion-mnist-subset"}))
def test_the_error_for_missing_files_names_set_and_folder(name: str, tmp_path: Path) -> None:
    """Without files the error names the data set and the folder; without a folder it says so; neither names an option."""
    with pytest.raises(DatasetMissing, match=f"Data set '{name}' was not found in {tmp_path}") as missing:
        datasets.load(name, "test", root=tmp_path)
    with pytest.raises(DatasetMissing, match=f"Data set '{name}' .* no folder was given") as nowhere:
        datasets.load(name, "test")
    assert not any("--" in error.value.message for error in (missing, nowhere))
    assert {error.value.remedy for error in (missing, nowhere)} == {"data-root"}


def test_a_sites_own_set_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed entry point `faal.datasets` is a data set by its name."""
    info = tmp_path / "site_sets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: site-sets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[faal.datasets]\nsites-own = faal_core.datasets.bundled:load\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(datasets.load("sites-own", "test")) == 3_000


def test_unknown_names_and_missing_paths_have_their_own_errors(tmp_path: Path) -> None:
    """An unknown name gets suggestions; a path that does not exist gets its own error."""
    with pytest.raises(UnknownName, match="no data set named 'cifar-10'; did you mean cifar10"):
        datasets.load("cifar-10", "test")
    for path in (tmp_path / "none", "none.npz"):
        with pytest.raises(DatasetMissing, match=r"File or folder .* was not found"):
            datasets.load(str(path), "test")
