"""Folders and zips of images: their layouts, and what is refused."""

import io
import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest
from PIL import Image

from faal_core import datasets
from faal_core.errors import DatasetInvalid


def encode_image(level: int = 0, mode: str = "L", size: tuple[int, int] = (5, 6), kind: str = "PNG") -> bytes:
    """Return an image file of one level."""
    content = io.BytesIO()
    Image.new(mode, size, level).save(content, kind)
    return content.getvalue()


DIVIDED = {
    f"{part}/{name}/{i}.png": encode_image(10 * i)
    for part in ("train", "test")
    for name in ("cat", "ape")
    for i in range(3)
}
UNDIVIDED = {f"{name}/{i}.png": encode_image(10 * i) for name in ("cat", "ape") for i in range(3)}


def write_folder(base: Path, members: Mapping[str, bytes]) -> str:
    """Write the members as files of a folder and return its path."""
    for name, content in members.items():
        path = base / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(base / "set")


def write_zip(base: Path, members: Mapping[str, bytes]) -> str:
    """Write the members as an archive and return its path."""
    with ZipFile(base / "set.zip", "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return str(base / "set.zip")


Place = Callable[[Path, Mapping[str, bytes]], str]
both = pytest.mark.parametrize("place", [write_folder, write_zip])


@both
@pytest.mark.parametrize("parent", ["", "my set/"])
def test_both_parts_are_read(place: Place, parent: str, tmp_path: Path) -> None:
    """train/<class>/<image> and test/<class>/<image> are read, also below one more folder, with classes in alphabetical order."""
    path = place(tmp_path, {parent + name: content for name, content in DIVIDED.items()})
    for part in ("train", "test"):
        data = datasets.load(path, part)
        assert data.class_names == ("ape", "cat")
        assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert data.images.shape == (6, 1, 6, 5)
        assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 0, 10, 20]
        assert (data.name, data.part) == ("set", part)


@both
@pytest.mark.parametrize("parent", ["", "my set/"])
def test_class_folders_alone_are_a_test_part(place: Place, parent: str, tmp_path: Path) -> None:
    """<class>/<image> is a test part; asking for a training part raises an error that names the folder it needs."""
    path = place(tmp_path, {parent + name: content for name, content in UNDIVIDED.items()})
    assert len(datasets.load(path, "test")) == 6
    with pytest.raises(
        DatasetInvalid, match=r"set has no train part\. Put its class folders below a folder named train"
    ):
        datasets.load(path, "train")


@pytest.mark.parametrize(
    ("kind", "suffix"), [("PNG", "png"), ("JPEG", "JPG"), ("BMP", "bmp"), ("WEBP", "webp"), ("PPM", "ppm")]
)
def test_usual_formats_are_read_in_colour(kind: str, suffix: str, tmp_path: Path) -> None:
    """RGB images of every usual format have three channels, with their levels."""
    white, black = encode_image(0xFFFFFF, "RGB", kind=kind), encode_image(0, "RGB", kind=kind)
    data = datasets.load(write_zip(tmp_path, {f"a/1.{suffix}": white, f"b/1.{suffix}": black}), "test")
    assert data.images.shape == (2, 3, 6, 5)
    assert data.images.flatten(1).double().mean(1).tolist() == [255, 0]


@both
def test_hidden_files_are_ignored(place: Place, tmp_path: Path) -> None:
    """Hidden files of file managers are ignored."""
    names = {".DS_Store": b"x", "cat/.DS_Store": b"x", "__MACOSX/cat/._0.png": b"x"}
    assert len(datasets.load(place(tmp_path, UNDIVIDED | names), "test")) == 6


@both
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cat/notes.txt": b"x"}, "cat/notes.txt is not a supported image"),
        ({"0.png": encode_image()}, "0.png is at the wrong depth"),
        ({"cat/deep/0.png": encode_image()}, "cat/deep/0.png is at the wrong depth"),
        ({"cat/9.png": encode_image(size=(6, 5))}, "cat/9.png is 6 × 5 grey, ape/0.png is 5 × 6 grey"),
        ({"cat/9.png": encode_image(mode="RGBA")}, "cat/9.png has mode RGBA; convert it"),
        ({"cat/9.png": encode_image()[:-20]}, "cat/9.png cannot be decoded"),
        ({"cat/9.png": b""}, "cat/9.png cannot be decoded"),
        ({"cat/9.png": encode_image(kind="TIFF")}, "cat/9.png cannot be decoded"),
    ],
)
def test_foreign_files_are_refused(place: Place, more: dict[str, bytes], reason: str, tmp_path: Path) -> None:
    """Stray files, wrong depths, and images of another size, mode or format are refused by name."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(place(tmp_path, UNDIVIDED | more), "test")


@both
def test_parts_share_their_classes(place: Place, tmp_path: Path) -> None:
    """All parts have the same classes: one without images in a part keeps its position there."""
    path = place(tmp_path, DIVIDED | {"test/bee/0.png": encode_image()})
    train, test = (datasets.load(path, part) for part in ("train", "test"))
    assert train.class_names == test.class_names == ("ape", "bee", "cat")
    assert (train.classes_without_images, test.classes_without_images) == (("bee",), ())
    assert train.labels.tolist() == [0, 0, 0, 2, 2, 2]


@both
def test_one_class_is_no_data_set(place: Place, tmp_path: Path) -> None:
    """A single class folder is refused."""
    with pytest.raises(DatasetInvalid, match="set has only the class 'cat'; 2 to"):
        datasets.load(place(tmp_path, {"train/cat/0.png": encode_image()}), "train")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without images is refused."""
    with pytest.raises(DatasetInvalid, match="has 0 images"):
        datasets.load(str(tmp_path), "test")


def encode_huge_png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header states that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


@pytest.mark.parametrize(("width", "height"), [(8192, 4097), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_pixel_bombs_are_refused_unopened(width: int, height: int, tmp_path: Path) -> None:
    """An image of too many pixels is refused by its header."""
    with pytest.raises(DatasetInvalid, match=r"at most 33,554,432 are read|cannot be decoded: Image size"):
        datasets.load(write_zip(tmp_path, UNDIVIDED | {"ape/9.png": encode_huge_png(width, height)}), "test")


@pytest.mark.parametrize("name", ["../cat/0.png", "/cat/0.png", "cat/../../0.png", "cat\\0.png", "C:/cat/0.png"])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    """A member whose name leads out of the archive is refused by name, although no archive is extracted."""
    with pytest.raises(DatasetInvalid, match="leads out of the archive"):
        datasets.load(write_zip(tmp_path, UNDIVIDED | {name: encode_image()}), "test")


@both
def test_colons_and_other_signs_lead_nowhere(place: Place, tmp_path: Path) -> None:
    """Names of classes and images may have colons, blanks, brackets and letters of any script."""
    members = {
        f"{name}/2024-05-01 10:14:29 ({i}) [ü].png": encode_image(10 * i)
        for name in ("ape: small", "猫")
        for i in range(3)
    }
    data = datasets.load(place(tmp_path, members), "test")
    assert (data.class_names, len(data)) == (("ape: small", "猫"), 6)


def test_links_are_refused(tmp_path: Path) -> None:
    """A link in an archive, and one out of a folder, are refused by name."""
    link = ZipInfo("cat/9.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path, UNDIVIDED)
    with ZipFile(path, "a") as target:
        target.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetInvalid, match=r"'cat/9.png' is a link"):
        datasets.load(path, "test")
    folder = write_folder(tmp_path, UNDIVIDED)
    (Path(folder) / "cat/9.png").symlink_to("/etc/passwd")
    with pytest.raises(DatasetInvalid, match=r"9\.png is a link"):
        datasets.load(folder, "test")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    """A member flagged as encrypted is refused."""
    path = Path(write_zip(tmp_path, UNDIVIDED))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DatasetInvalid, match="is encrypted"):
        datasets.load(str(path), "test")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_names_are_refused(tmp_path: Path) -> None:
    """Two members with one name are refused, because readers differ in which one they use."""
    path = write_zip(tmp_path, UNDIVIDED)
    with ZipFile(path, "a") as target:
        target.writestr("cat/0.png", encode_image(200))
    with pytest.raises(DatasetInvalid, match="two members have one name"):
        datasets.load(path, "test")


@both
def test_large_files_are_refused(place: Place, tmp_path: Path) -> None:
    """A member of more than 32 MB is refused."""
    noise = np.random.default_rng(0).bytes(33 * 2**20)
    with pytest.raises(DatasetInvalid, match=r"9\.png'? (unpacks to|has) 34,603,008 bytes"):
        datasets.load(place(tmp_path, UNDIVIDED | {"cat/9.png": noise}), "test")
