"""WebDataset tar files: what is read, and what is refused."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from faal_core import datasets
from faal_core.datasets import ImageCache
from faal_core.errors import DatasetInvalid, InvalidSpec
from tests.unit.faal_core.datasets.test_image_folder import encode_image

Content = bytes | tarfile.TarInfo


def write_tar(path: Path, members: Mapping[str, Content]) -> str:
    """Write the members into a tar file; one may come with a header of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
            else:
                header.name = name
                archive.addfile(header)
    return str(path)


def make_samples(count: int, first: int = 0) -> dict[str, bytes]:
    """Return images of ascending levels and their labels, 0 and 1 in turn."""
    samples = {}
    for i in range(first, first + count):
        samples |= {f"{i:06}.png": encode_image(10 * i), f"{i:06}.cls": f"{i % 2}\n".encode()}
    return samples


def test_one_file_is_a_test_part(tmp_path: Path) -> None:
    """Images and labels of one name are samples, in the file's order; other fields and hidden members are ignored."""
    more = {"000000.json": b"{}", ".hidden.png": b"x", "__meta__.txt": b"x", "./deep/a.b.txt": b"x"}
    data = datasets.load(write_tar(tmp_path / "set.tar", make_samples(4) | more), "test")
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert (data.class_names, data.name, data.part) == (("0", "1"), "set", "test")
    assert datasets.list_parts(str(tmp_path / "set.tar")) == ("test",)


def test_folders_of_shards_have_parts(tmp_path: Path) -> None:
    """Words of the files' names say the part; a sample's name may occur in two shards."""
    for i in range(2):
        write_tar(tmp_path / f"set/imagenet-train-{i:04}.tar", make_samples(4))
    write_tar(tmp_path / "set/imagenet-validation-0.tar", make_samples(2))
    (tmp_path / "set/README.md").write_text("x")
    path = str(tmp_path / "set")
    assert set(datasets.list_parts(path)) == {"train", "validation"}
    assert datasets.load(path, "train").images[:, 0, 0, 0].tolist() == [0, 10, 20, 30] * 2
    assert len(datasets.load(path, "validation")) == 2
    with pytest.raises(DatasetInvalid, match=r"set has no test part\. Begin the names of its files with test-"):
        datasets.load(path, "test")


def test_shards_are_cached_and_have_groups_of_classes(tmp_path: Path) -> None:
    """The cache holds the images of shards, and class_groups.csv beside them is read."""
    write_tar(tmp_path / "set/test-0.tar", make_samples(4))
    (tmp_path / "set/class_groups.csv").write_text("class,group\n0,even\n1,odd\n")
    cache = ImageCache(tmp_path / "cache")
    plain, written, read = (datasets.load(str(tmp_path / "set"), "test", cache=one) for one in (None, cache, cache))
    assert plain.sha256 == written.sha256 == read.sha256
    assert read.mapping is not None
    assert torch.equal(read.images, plain.images)
    assert [grouping.names for grouping in read.groups] == [("even", "odd")]


def make_special(kind: bytes, target: str = "000000.png") -> tarfile.TarInfo:
    """Return the header of a link or device."""
    header = tarfile.TarInfo()
    header.type, header.linkname = kind, target
    return header


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (
            {"000009.png": make_special(tarfile.SYMTYPE, "/etc/passwd")},
            "'000009.png' is a link, a device or a sparse file",
        ),
        ({"000009.png": make_special(tarfile.LNKTYPE)}, "'000009.png' is a link"),
        ({"000009.png": make_special(tarfile.CHRTYPE)}, "'000009.png' is a link, a device"),
        ({"000009.png": make_special(tarfile.FIFOTYPE)}, "'000009.png' is a link, a device"),
        ({"/etc/000009.png": b"x"}, "'/etc/000009.png' leads out of the archive"),
        ({"../000009.png": b"x"}, "'../000009.png' leads out of the archive"),
        ({"000009.png": b"x"}, "the sample 000009 has no label 000009.cls"),
        ({"000009.cls": b"1"}, "the sample 000009 has no image"),
        ({"000001.jpg": b"x"}, "the sample '000001' has two images"),
        ({"000009.png": encode_image(), "000009.cls": b"-1"}, "000009.cls holds '-1'; a label is a whole number in 0…"),
        ({"000009.png": encode_image(), "000009.cls": b"1" * 50}, "000009.cls holds '1111"),
        ({"000009.png": encode_image(), "000009.cls": b" " * 200 + b"1"}, "000009.cls holds ''"),
        ({"000009.png": encode_image(), "000009.cls": b"\xff"}, "000009.cls holds"),
        ({"000009.png": encode_image()[:-20], "000009.cls": b"1"}, "set.tar/000009.png cannot be decoded"),
        ({"000009.png": encode_image(size=(6, 5)), "000009.cls": b"1"}, "set.tar/000009.png is 6 × 5 grey"),
        ({"x" * 70_000: b"x"}, "a header has 70,144 bytes; at most 65,536 are read"),
    ],
)
def test_unsafe_and_incomplete_files_are_refused(members: dict[str, Content], reason: str, tmp_path: Path) -> None:
    """Links, devices, names that lead outside, incomplete samples and bad labels are refused by name."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_tar(tmp_path / "set.tar", make_samples(2) | members), "test")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Truncated files, members that claim terabytes, and files without a sample are refused."""
    path = Path(write_tar(tmp_path / "set.tar", make_samples(2)))
    content = path.read_bytes()
    path.write_bytes(content[: 512 * 3 + 40])
    with pytest.raises(DatasetInvalid, match=r"set\.tar (cannot be read as a tar file|is refused)|sample"):
        datasets.load(str(path), "test")
    header = tarfile.TarInfo("000009.png")
    header.size = 2**42
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + content)
    with pytest.raises(DatasetInvalid, match=r"'000009\.png' has 4,398,046,511,104 bytes; at most"):
        datasets.load(str(path), "test")
    with pytest.raises(DatasetInvalid, match=r"set \(test\) has 0 images; 1 to"):
        datasets.load(write_tar(path, {"000000.txt": b"x"}), "test")


def test_a_chain_of_long_names_is_refused(tmp_path: Path) -> None:
    """Thousands of headers that each announce a long name end in an error, not in a crash."""
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 10
    link = header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    (tmp_path / "set.tar").write_bytes(link * 5000)
    with pytest.raises(DatasetInvalid, match=r"set\.tar cannot be read as a tar file"):
        datasets.load(str(tmp_path / "set.tar"), "test")


def test_parts_that_are_unclear_are_refused(tmp_path: Path) -> None:
    """A name with two parts, files without a part beside others, and one part in two folders are refused."""
    for names, reason in (
        (("train-test-0.tar",), "names two parts, test and train"),
        (("train-0.tar", "0.tar"), "0.tar names no part, but other files do"),
        (("a/train-0.tar", "b/train-0.tar"), "are of one part, but in two folders"),
    ):
        folder = tmp_path / names[0].replace("/", "-")
        for name in names:
            write_tar(folder / name, make_samples(2))
        with pytest.raises(DatasetInvalid, match=reason):
            datasets.load(str(folder), "train")


def test_a_class_order_does_not_apply(tmp_path: Path) -> None:
    """Labels are numbers, so an order of names is refused."""
    path = write_tar(tmp_path / "set.tar", make_samples(2))
    with pytest.raises(InvalidSpec, match=r"set\.tar has labels as numbers"):
        datasets.load(path, "test", reading=datasets.Reading(class_order="string"))
