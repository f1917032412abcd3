"""Columns of groups: read from archives and tables, kept with their images, and refused when wrong."""

import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from faal_core import datasets
from faal_core.datasets.grouping import Grouping
from faal_core.errors import DatasetInvalid
from faal_core.specs.class_names import MAX_COLUMNS, MAX_GROUPS
from tests.unit.faal_core.datasets.test_image_folder import DIVIDED, UNDIVIDED, Place, both, write_zip
from tests.unit.faal_core.datasets.test_npz_archive import GREY, LABELS


def write_archive(folder: Path, **arrays: object) -> str:
    """Write an archive without parts, with those arrays beside its images, and return its path."""
    np.savez(folder / "set.npz", images=GREY, labels=LABELS, **arrays)
    return str(folder / "set.npz")


def format_table(rows: Mapping[str, str], header: str = "image,camera") -> bytes:
    """Return a table of groups, one row for each image."""
    return "\r\n".join([header, *(f"{name},{group}" for name, group in rows.items())]).encode("utf-8-sig")


def test_columns_of_an_archive(tmp_path: Path) -> None:
    """Strings and whole numbers become groups in alphabetical order; each part has its own columns."""
    parts = {f"{part}_images": GREY for part in ("train", "test")} | {
        f"{part}_labels": LABELS for part in ("train", "test")
    }
    groups = {"test_group_camera": ["b", "a", "b", "é"], "test_group_year": [2024, 1999, 1999, 2024]}
    np.savez(tmp_path / "set.npz", **parts, **groups, train_group_room=[1, 1, 1, 1], group_other=[0])
    test, train = (datasets.load(str(tmp_path / "set.npz"), part) for part in ("test", "train"))
    assert [(one.column, one.names, one.members.tolist()) for one in test.groups] == [
        ("camera", ("a", "b", "é"), [1, 0, 1, 2]),
        ("year", ("1999", "2024"), [1, 0, 0, 1]),
    ]
    assert [one.column for one in train.groups] == ["room"]


def test_groups_stay_with_their_images(tmp_path: Path) -> None:
    """A subset of images keeps its groups and drops those without images; groups do not change the digest."""
    data = datasets.load(write_archive(tmp_path, group_camera=["x", "y", "z", "y"]), "test")
    one, all_classes = data.groups[0].take(np.array([3])), data.take(torch.tensor([2, 1, 0]))
    assert (one.names, one.members.tolist()) == (("y",), [0])
    assert [all_classes.groups[0].names[group] for group in all_classes.groups[0].members] == ["z", "y", "x"]
    assert data.sha256 == datasets.load(write_archive(tmp_path), "test").sha256


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("camera", ["a", "b"], "2 of 4 images"),
        ("camera", [0.5, 1, 2, 3], "strings or whole numbers"),
        ("camera", [["a"], ["b"], ["c"], ["d"]], "of shape"),
        ("camera", [b"a", b"b", b"c", b"d"], "strings or whole numbers"),
        ("camera", ["a", "", "b", "c"], "1 to 100 characters"),
        ("camera", ["a", "b\n", "b", "c"], "control character"),
        ("", ["a", "b", "b", "c"], "a column of groups is called"),
        ("c" * 101, ["a", "b", "b", "c"], "a column of groups is called"),
    ],
)
def test_groups_out_of_order_are_refused(column: str, values: list[object], reason: str, tmp_path: Path) -> None:
    """A column has one value for each image, and names that can be displayed."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_archive(tmp_path, **{f"group_{column}": np.array(values)}), "test")


def test_there_is_an_end_to_groups(tmp_path: Path) -> None:
    """More groups or columns than the limits are refused."""
    many = np.arange(MAX_GROUPS + 1)
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((len(many), 4, 4), np.uint8), labels=many % 2, group_id=many)
    with pytest.raises(DatasetInvalid, match="101 groups"):
        datasets.load(str(path), "test")
    with pytest.raises(DatasetInvalid, match="11 columns"):
        datasets.load(write_archive(tmp_path, **{f"group_{n}": LABELS for n in range(MAX_COLUMNS + 1)}), "test")


@pytest.mark.parametrize("table_name", ["groups.csv", "labels.csv"])
@pytest.mark.parametrize("header", [b"image" + b"," * 10**6, b",".join(b"c%d" % i for i in range(10**5))])
def test_tables_of_many_columns_are_refused_at_once(table_name: str, header: bytes, tmp_path: Path) -> None:
    """A first line of a hundred thousand cells is refused in little more than the time to split it."""
    path = write_zip(tmp_path, {**UNDIVIDED, table_name: header})
    start = time.process_time()
    with pytest.raises(DatasetInvalid, match=r"has (1,000,001|100,000) columns; at most 10"):
        datasets.load(path, "test")
    assert time.process_time() - start < 5


def test_a_long_cell_takes_no_more_room_than_it_has() -> None:
    """A group name of a hundred thousand characters is refused without taking that memory for each of thousands of images."""
    values = ["a"] * 5000 + ["b" * 100_000]
    tracemalloc.start()
    try:
        with pytest.raises(DatasetInvalid, match="names have 1 to 100 characters"):
            Grouping.from_values("camera", values)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@both
@pytest.mark.parametrize("parent", ["", "my set/"])
def test_a_table_beside_the_folders(place: Place, parent: str, tmp_path: Path) -> None:
    """groups.csv assigns groups by the images' paths, in any order, for both parts."""
    names = sorted(DIVIDED)
    groups = {name: f"{'old' if name.endswith('0.png') else 'new'},{n % 2}" for n, name in enumerate(names)}
    content = format_table(dict(reversed(groups.items())), "image,camera,half")
    path = place(tmp_path, {parent + name: file for name, file in {**DIVIDED, "groups.csv": content}.items()})
    for part in ("train", "test"):
        camera, half = datasets.load(path, part).groups
        assert [camera.names[group] for group in camera.members] == ["old", "new", "new"] * 2
        assert (half.column, half.names) == ("half", ("0", "1"))


@both
def test_without_a_table_there_are_no_groups(place: Place, tmp_path: Path) -> None:
    """Without a table there are no groups."""
    assert datasets.load(place(tmp_path, UNDIVIDED), "test").groups == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (format_table({"cat/0.png": "a"}), "no row for ape/0.png"),
        (format_table(dict.fromkeys(UNDIVIDED, "a"), "file,camera"), "no column `image`.*'file, camera'"),
        (format_table(dict.fromkeys(UNDIVIDED, "a,b")), "row 2 has 3 cells; the first has 2"),
        (format_table(dict.fromkeys(UNDIVIDED, "a"), "image,camera,room"), "row 2 has 2 cells; the first has 3"),
        (format_table(dict.fromkeys(UNDIVIDED, "a")) + b"\r\ncat/0.png,b", "twice"),
        (format_table(dict.fromkeys(UNDIVIDED, "")), "1 to 100 characters"),
        (format_table(dict.fromkeys(UNDIVIDED, "a,b"), "image,camera,camera"), "two columns called 'camera'"),
        (b"", "no column `image`"),
        (b"image,camera\n\xff\xfe", "cannot be read as a table"),
        (b'image,camera\n"cat', "cannot be read as a table"),
        (b"image,camera\n" + b"a" * 200_000, "cannot be read as a table"),
    ],
)
def test_tables_out_of_order_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    """A table that leaves an image out, lists one twice, or is invalid is refused with the reason."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_zip(tmp_path, {**UNDIVIDED, "groups.csv": content}), "test")


@pytest.mark.parametrize(
    ("second", "reason"),
    [("test/groups.csv", "two tables for the test part"), ("test/cat/groups.csv", "is in a folder of images")],
)
def test_two_tables_are_refused(second: str, reason: str, tmp_path: Path) -> None:
    """A part has at most one table, and it is beside its folders."""
    content = format_table(dict.fromkeys(DIVIDED, "a"))
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_zip(tmp_path, {**DIVIDED, "groups.csv": content, second: content}), "test")


@both
@pytest.mark.parametrize("named_part", ["train", "test"])
@pytest.mark.parametrize("in_part", [False, True])
def test_a_table_may_name_one_part_alone(place: Place, named_part: str, in_part: bool, tmp_path: Path) -> None:
    """A groups.csv with one part's images, beside the parts or in the part's folder, gives groups to that part alone."""
    base = f"{named_part}/" if in_part else ""
    rows = {name.removeprefix(base): "ab"[n % 2] for n, name in enumerate(DIVIDED) if name.startswith(named_part)}
    path = place(tmp_path, {**DIVIDED, f"{base}groups.csv": format_table(rows)})
    other = "train" if named_part == "test" else "test"
    assert [grouping.column for grouping in datasets.load(path, named_part).groups] == ["camera"]
    assert datasets.load(path, other).groups == ()


def test_each_part_may_have_a_table(tmp_path: Path) -> None:
    """A groups.csv in each part's folder holds for that part, with columns of its own."""
    tables = {
        f"{part}/groups.csv": format_table(
            {f"{c}/{i}.png": part for c in ("ape", "cat") for i in range(3)}, f"image,{part} place"
        )
        for part in ("train", "test")
    }
    path = write_zip(tmp_path, {**DIVIDED, **tables})
    assert [datasets.load(path, part).groups[0].column for part in ("train", "test")] == ["train place", "test place"]


def test_a_table_that_leaves_out_some_images_of_a_part_is_refused(tmp_path: Path) -> None:
    """A table lists a part's images completely or not at all, also beside another part's."""
    rows = dict.fromkeys([name for name in DIVIDED if name != "test/cat/1.png"], "a")
    path = write_zip(tmp_path, {**DIVIDED, "groups.csv": format_table(rows)})
    assert len(datasets.load(path, "train").groups) == 1
    with pytest.raises(DatasetInvalid, match=r"no row for test/cat/1\.png"):
        datasets.load(path, "test")


@pytest.mark.parametrize(
    ("separator", "ending", "prefix"),
    [(";", "\r\n", ""), ("\t", "\n", ""), (", ", "\n", "./"), (",", "\r\n\r\n", ".\\")],
)
def test_tables_as_other_programs_write_them(separator: str, ending: str, prefix: str, tmp_path: Path) -> None:
    """Semicolons, tabs, blanks after commas, blank lines and other systems' path separators do not change the result."""
    name = (lambda path: path.replace("/", "\\")) if prefix == ".\\" else (lambda path: path)
    rows = [f"image{separator}camera", *(f"{prefix}{name(image)}{separator}{image[0]}" for image in UNDIVIDED)]
    path = write_zip(tmp_path, {**UNDIVIDED, "groups.csv": ending.join(rows).encode()})
    (camera,) = datasets.load(path, "test").groups
    assert (camera.column, camera.names, camera.members.tolist()) == ("camera", ("a", "c"), [0, 0, 0, 1, 1, 1])
