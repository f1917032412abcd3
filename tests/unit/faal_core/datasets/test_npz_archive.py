"""NumPy archives: which are read, and which are refused."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from faal_core import datasets
from faal_core.errors import DatasetInvalid

LABELS = np.array([0, 1, 2, 0])
GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
RGB = np.arange(4 * 6 * 5 * 3, dtype=np.uint8).reshape(4, 6, 5, 3)  # n h w c


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes arrays into an archive and returns its path."""

    def write(**arrays: object) -> str:
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return write


def test_a_divided_archive_has_two_parts(archive: Callable[..., str]) -> None:
    """Each part has its own images and labels; class names are the archive's."""
    path = archive(
        train_images=RGB,
        train_labels=LABELS,
        test_images=RGB[::-1],
        test_labels=LABELS[::-1],
        class_names=["cat", "dog", "owl"],
    )
    train, test = datasets.load(path, "train"), datasets.load(path, "test")
    assert torch.equal(train.images, torch.from_numpy(RGB.transpose(0, 3, 1, 2).copy()))
    assert torch.equal(test.images, train.images.flip(0))
    assert test.labels.tolist() == [0, 2, 1, 0]
    assert train.class_names == ("cat", "dog", "owl")
    assert (train.name, train.part, test.part) == ("set", "train", "test")


def test_an_undivided_archive_is_a_test_part(archive: Callable[..., str]) -> None:
    """Images and labels alone are a test part; the error for a training part names its arrays; other arrays are ignored."""
    path = archive(images=GREY, labels=LABELS, exact=np.ones(4, bool))
    assert len(datasets.load(path, "test")) == 4
    with pytest.raises(
        DatasetInvalid, match=r"no train part: it holds exact, images, labels\. Name its arrays train_images"
    ):
        datasets.load(path, "train")


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        (GREY, 1),
        (GREY[..., None], 1),
        (GREY[:, None], 1),
        (RGB, 3),
        (RGB.transpose(0, 3, 1, 2), 3),
        (np.asfortranarray(RGB), 3),
    ],
    ids=["nhw", "nhwc-1", "nchw-1", "nhwc", "nchw", "fortran"],
)
def test_every_usual_layout_is_read(images: np.ndarray, channels: int, archive: Callable[..., str]) -> None:
    """N h w, n h w c and n c h w, in either memory order, give the same images n c h w."""
    expected = GREY[:, None] if channels == 1 else RGB.transpose(0, 3, 1, 2)
    assert np.array_equal(datasets.load(archive(images=images, labels=LABELS), "test").images.numpy(), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_pixels(dtype: str, archive: Callable[..., str]) -> None:
    """Floats of any width and byte order, in [0, 1], become float32 pixels of the same values."""
    images = (GREY / 128).astype(dtype)
    data = datasets.load(archive(images=images, labels=LABELS), "test")
    assert np.array_equal(data.images[:, 0].numpy(), images.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, ">i2"])
def test_labels_are_whole_numbers_of_any_width(dtype: str, archive: Callable[..., str]) -> None:
    """Labels of any integer type are read; without class names, classes are named by their numbers."""
    data = datasets.load(archive(images=GREY, labels=LABELS.astype(dtype)), "test")
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert data.class_names == ("0", "1", "2")


def test_classes_are_counted_over_both_parts(archive: Callable[..., str]) -> None:
    """Without names, a class that only the test part has is an empty class of the training part."""
    path = archive(train_images=GREY, train_labels=[0, 1, 1, 0], test_images=GREY, test_labels=LABELS)
    assert datasets.load(path, "train").classes_without_images == ("2",)
    assert datasets.load(path, "test").classes_without_images == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": GREY.astype(np.int32)}, "uint8 levels or floats in .0, 1., not int32"),
        ({"images": GREY.astype(np.float32)}, "span 0 to 119; divide by 255"),
        ({"images": GREY[:, 0]}, "not of shape"),
        ({"images": np.zeros((4, 3, 9, 3), np.uint8)}, "not of shape"),
        ({"images": GREY[:3]}, "3 images and 4 labels"),
        ({"images": np.zeros((4, 0, 5), np.uint8)}, "images are n × c × h × w"),
        ({"labels": LABELS.astype(float)}, r"whole numbers.*; store labels.astype\(int\)"),
        ({"labels": LABELS[None]}, "whole numbers"),
        ({"labels": np.eye(3)[LABELS]}, r"one-hot, of shape \(4, 3\); store labels.argmax\(1\)"),
        ({"labels": np.stack([LABELS, LABELS], 1)}, "whole numbers"),
        ({"labels": np.array(1)}, "whole numbers"),
        ({"labels": np.zeros(4, [("a", "i4"), ("b", "i4")])}, "elements have fields"),
        ({"images": np.array(1, np.uint8)}, "not of shape"),
        ({"images": GREY // 100}, "levels 0 and 1 alone"),
        ({"images": GREY.astype(np.int64)}, "not int64; store images.astype"),
        ({"images": GREY.astype(np.uint16) * 256}, "not uint16; store images / the highest level"),
        ({"images": GREY > 3}, "not bool; store them as float32"),
        ({"labels": LABELS[:0]}, "whole numbers"),
        ({"labels": LABELS - 1}, "labels span -1 to 1"),
        ({"labels": LABELS * 10_000}, "labels span 0 to 20000"),
        ({"class_names": ["a", "b"]}, "label 2 is not in 0…1"),
        ({"class_names": ["a", "b", "b"]}, "two classes have the same name"),
        ({"class_names": ["a", "b", ""]}, "1 to 100 characters"),
        ({"class_names": ["a", "b", "c" * 101]}, "1 to 100 characters"),
        ({"class_names": [1, 2, 3]}, "strings, not int64"),
    ],
)
def test_arrays_out_of_order_are_refused(changes: dict[str, object], reason: str, archive: Callable[..., str]) -> None:
    """Each broken rule of images, labels and names is an error with the wrong value."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(archive(**({"images": GREY, "labels": LABELS} | changes)), "test")


def test_class_names_are_text(archive: Callable[..., str]) -> None:
    """A name with code points that are not characters is refused."""
    with pytest.raises(DatasetInvalid, match="class_names holds code points that are not characters"):
        datasets.load(
            archive(images=GREY, labels=LABELS, class_names=np.array([2**31 - 1, 65, 66], np.uint32).view("<U1")),
            "test",
        )


class Canary:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_pickled_arrays_never_run(archive: Callable[..., str], tmp_path: Path) -> None:
    """An array of objects is refused without unpickling it."""
    path = archive(images=np.array([Canary(tmp_path / "harm")] * 4), labels=LABELS)
    with pytest.raises(DatasetInvalid, match=r"images cannot be read as an array.* Python objects"):
        datasets.load(path, "test")
    assert not (tmp_path / "harm").exists()


def encode_npy(shape: str, content: bytes, kind: str = "|u1") -> bytes:
    """Return an array file that states that shape, as Python text, and that type."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *((shape, "|u1") for shape in ("(4, 6, 1000000000000)", "(4, 6)", "(-4, -6, 5)", "(4, 6.5)", "'x'", "(" * 90)),
        ("__import__('os')", "|u1"),
        ("(15,)", "|O"),
        ("(4,)", "<U0"),
        ("(1000000000000,)", "<U0"),
        ("(1000000000000, 0)", "|u1"),
        ("(" + "1, " * 40 + ")", "|u1"),
        ("()", "|V0"),
    ],
)
def test_headers_that_lie_are_refused(shape: str, kind: str, tmp_path: Path) -> None:
    """The stated shape and type must account for every byte; no memory is allocated on their word."""
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with ZipFile(tmp_path / "set.npz", "w") as target:
        target.writestr("images.npy", encode_npy(shape, GREY.tobytes(), kind))
        target.writestr("labels.npy", labels.getvalue())
    with pytest.raises(DatasetInvalid, match=r"images (states shape|cannot be read as an array)"):
        datasets.load(str(tmp_path / "set.npz"), "test")


@pytest.mark.parametrize("name", ["labels", "class_names", "group_camera"])
@pytest.mark.parametrize(
    ("shape", "kind", "content"),
    [("(1000000000000,)", "<U0", b""), ("(1000000000000,)", "|V0", b""), ("(50000000,)", "<U1", bytes(200_000_000))],
    ids=["empty strings", "nothing", "blank strings"],
)
def test_tiny_archives_take_little_time(name: str, shape: str, kind: str, content: bytes, tmp_path: Path) -> None:
    """A few bytes that state a million million strings are refused at once, in any array."""
    arrays = {"images": GREY, "labels": LABELS}
    with ZipFile(tmp_path / "set.npz", "w", ZIP_DEFLATED) as target:
        for other, array in arrays.items():
            if other != name:
                file = io.BytesIO()
                np.save(file, array)
                target.writestr(f"{other}.npy", file.getvalue())
        target.writestr(f"{name}.npy", encode_npy(shape, content, kind))
    start = time.monotonic()
    with pytest.raises(DatasetInvalid):
        datasets.load(str(tmp_path / "set.npz"), "test")
    assert time.monotonic() - start < 5


def test_labels_may_be_a_column(archive: Callable[..., str]) -> None:
    """Labels of shape (n, 1) are the labels of shape (n,)."""
    column, row = (datasets.load(archive(images=GREY, labels=labels), "test") for labels in (LABELS[:, None], LABELS))
    assert column.labels.tolist() == row.labels.tolist() == LABELS.tolist()
    assert column.sha256 == row.sha256


@pytest.mark.parametrize("prefix", ["validation_", "val_"])
def test_validation_images_are_a_part(prefix: str, archive: Callable[..., str]) -> None:
    """Validation arrays become neither training nor test images."""
    arrays = {f"{name}images": GREY for name in ("train_", prefix, "test_")}
    labels = {f"{name}labels": (LABELS + n) % 3 for n, name in enumerate(("train_", prefix, "test_"))}
    path = archive(**arrays, **labels)
    assert datasets.list_parts(path) == ("train", "validation", "test")
    assert datasets.load(path, "validation").labels.tolist() == [1, 2, 0, 1]
    assert datasets.load(path, "test").labels.tolist() == [2, 0, 1, 2]


def test_a_bomb_is_refused_before_it_is_unpacked(archive: Callable[..., str]) -> None:
    """100 MB of zeros in 100 kB are refused by their ratio."""
    with pytest.raises(DatasetInvalid, match="more than 200 times its size"):
        datasets.load(archive(images=np.zeros((100, 1000, 1000), np.uint8), labels=LABELS), "test")


@pytest.mark.parametrize("name", ["../images.npy", "/images.npy", "a\\images.npy", "C:images.npy"])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    """A member whose name leads out of the archive is refused by name, although no archive is extracted."""
    with ZipFile(tmp_path / "set.npz", "w") as target:
        target.writestr(name, b"x")
    with pytest.raises(DatasetInvalid, match="leads out of the archive"):
        datasets.load(str(tmp_path / "set.npz"), "test")


def test_unusual_compression_is_refused(tmp_path: Path) -> None:
    """Members with a compression that NumPy does not use are refused."""
    with ZipFile(tmp_path / "set.npz", "w", ZIP_BZIP2) as target:
        target.writestr("images.npy", b"x")
    with pytest.raises(DatasetInvalid, match="unsupported method"):
        datasets.load(str(tmp_path / "set.npz"), "test")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    """An archive with too many arrays is refused with their number."""
    with ZipFile(tmp_path / "set.npz", "w") as target:
        for i in range(101):
            target.writestr(f"{i}.npy", b"")
    with pytest.raises(DatasetInvalid, match="101 members"):
        datasets.load(str(tmp_path / "set.npz"), "test")


def test_a_damaged_member_is_refused(archive: Callable[..., str]) -> None:
    """A member whose bytes were changed is refused as unreadable."""
    path = Path(archive(images=GREY, labels=LABELS))
    content = bytearray(path.read_bytes())
    content[80:90] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(DatasetInvalid, match="images cannot be read as an array"):
        datasets.load(str(path), "test")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A text file is refused, whatever its name; the message lists the supported formats."""
    (tmp_path / "set.npz").write_text("no archive")
    with pytest.raises(DatasetInvalid, match=r"not a readable zip archive.*\.npz archive or a \.zip of class folders"):
        datasets.load(str(tmp_path / "set.npz"), "test")


def test_archives_are_known_by_their_content(archive: Callable[..., str], tmp_path: Path) -> None:
    """The content decides the format: an archive of arrays is read under any name."""
    path = Path(archive(images=GREY, labels=LABELS)).rename(tmp_path / "3fa9")
    assert len(datasets.load(str(path), "test")) == 4


def test_deflated_and_stored_archives_are_the_same(archive: Callable[..., str], tmp_path: Path) -> None:
    """np.savez and np.savez_compressed give the same images and digest."""
    compressed_set = datasets.load(archive(images=GREY, labels=LABELS), "test")
    np.savez(tmp_path / "stored.npz", images=GREY, labels=LABELS)
    assert ZipFile(tmp_path / "set.npz").infolist()[0].compress_type == ZIP_DEFLATED
    assert datasets.load(str(tmp_path / "stored.npz"), "test").sha256 == compressed_set.sha256


def test_one_large_image_is_refused(
    archive: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that takes more memory than the largest image file is not unpacked."""
    monkeypatch.setattr("faal_core.datasets.npz_arrays._MAX_IMAGE_BYTES", 89)
    with pytest.raises(DatasetInvalid, match="one of its images has 90 bytes; at most 89 are read"):
        datasets.load(archive(images=RGB, labels=LABELS), "test", cache=datasets.ImageCache(tmp_path / "cache"))
