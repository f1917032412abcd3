"""Columns of groups: read from archives and tables, kept with their images, and what is refused."""

import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from faal_core import datasets
from faal_core.datasets.grouping import MAX_COLUMNS, MAX_GROUPS, Grouping
from faal_core.errors import DatasetInvalid
from tests.unit.faal_core.datasets.test_image_folder import DIVIDED, UNDIVIDED, Place, both, in_zip
from tests.unit.faal_core.datasets.test_npz_archive import GREY, LABELS


def written(folder: Path, **arrays: object) -> str:
    """Path of an undivided archive with those arrays beside its images."""
    np.savez(folder / "set.npz", images=GREY, labels=LABELS, **arrays)
    return str(folder / "set.npz")


def table(rows: Mapping[str, str], header: str = "image,camera") -> bytes:
    """A table of groups, a row an image."""
    return "\r\n".join([header, *(f"{name},{group}" for name, group in rows.items())]).encode("utf-8-sig")


def test_columns_of_an_archive(tmp_path: Path) -> None:
    """Strings and whole numbers are groups, in alphabetical order, each part with its own columns."""
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
    """Images that are taken out of a data set keep their groups; a group without images is none; the digest stays the images'."""
    data = datasets.load(written(tmp_path, group_camera=["x", "y", "z", "y"]), "test")
    one, all_classes = data.groups[0].take(np.array([3])), data.take(torch.tensor([2, 1, 0]))
    assert (one.names, one.members.tolist()) == (("y",), [0])
    assert [all_classes.groups[0].names[group] for group in all_classes.groups[0].members] == ["z", "y", "x"]
    assert data.sha256 == datasets.load(written(tmp_path), "test").sha256


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
    """A column is as long as there are images, and of names that can be shown."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(written(tmp_path, **{f"group_{column}": np.array(values)}), "test")


def test_there_is_an_end_to_groups(tmp_path: Path) -> None:
    """More groups or columns than a report could show are refused."""
    many = np.arange(MAX_GROUPS + 1)
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((len(many), 4, 4), np.uint8), labels=many % 2, group_id=many)
    with pytest.raises(DatasetInvalid, match="101 groups"):
        datasets.load(str(path), "test")
    with pytest.raises(DatasetInvalid, match="11 columns"):
        datasets.load(written(tmp_path, **{f"group_{n}": LABELS for n in range(MAX_COLUMNS + 1)}), "test")


@pytest.mark.parametrize("table_name", ["groups.csv", "labels.csv"])
@pytest.mark.parametrize("header", [b"image" + b"," * 10**6, b",".join(b"c%d" % i for i in range(10**5))])
def test_tables_of_many_columns_are_refused_at_once(table_name: str, header: bytes, tmp_path: Path) -> None:
    """A first line of a hundred thousand cells takes no longer than to be split."""
    path = in_zip(tmp_path, {**UNDIVIDED, table_name: header})
    started = time.process_time()
    with pytest.raises(DatasetInvalid, match=r"has (1,000,001|100,000) columns; at most 10"):
        datasets.load(path, "test")
    assert time.process_time() - started < 5


def test_a_long_cell_takes_no_more_room_than_it_has() -> None:
    """One group's name of a hundred thousand characters among thousands of images is refused without that room for each."""
    values = ["a"] * 5000 + ["b" * 100_000]
    tracemalloc.start()
    try:
        with pytest.raises(DatasetInvalid, match="names have 1 to 100 characters"):
            Grouping.of("camera", values)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@both
@pytest.mark.parametrize("around", ["", "my set/"])
def test_a_table_beside_the_folders(place: Place, around: str, tmp_path: Path) -> None:
    """groups.csv says the groups of images by their paths, in any order, of both parts; other files are still none of ours."""
    names = sorted(DIVIDED)
    groups = {name: f"{'old' if name.endswith('0.png') else 'new'},{n % 2}" for n, name in enumerate(names)}
    content = table(dict(reversed(groups.items())), "image,camera,half")
    path = place(tmp_path, {around + name: file for name, file in {**DIVIDED, "groups.csv": content}.items()})
    for part in ("train", "test"):
        camera, half = datasets.load(path, part).groups
        assert [camera.names[group] for group in camera.members] == ["old", "new", "new"] * 2
        assert (half.column, half.names) == ("half", ("0", "1"))


@both
def test_without_a_table_there_are_no_groups(place: Place, tmp_path: Path) -> None:
    """Folders alone say nothing but classes."""
    assert datasets.load(place(tmp_path, UNDIVIDED), "test").groups == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (table({"cat/0.png": "a"}), "ape/0.png is not in it"),
        (table(dict.fromkeys(UNDIVIDED, "a"), "file,camera"), "no column `image`.*'file, camera'"),
        (table(dict.fromkeys(UNDIVIDED, "a,b")), "longer or shorter"),
        (table(dict.fromkeys(UNDIVIDED, "a"), "image,camera,room"), "longer or shorter"),
        (table(dict.fromkeys(UNDIVIDED, "a")) + b"\r\ncat/0.png,b", "twice"),
        (table(dict.fromkeys(UNDIVIDED, "")), "1 to 100 characters"),
        (table(dict.fromkeys(UNDIVIDED, "a,b"), "image,camera,camera"), "two columns called 'camera'"),
        (b"", "no column `image`"),
        (b"image,camera\n\xff\xfe", "cannot be read as a table"),
        (b'image,camera\n"cat', "cannot be read as a table"),
        (b"image,camera\n" + b"a" * 200_000, "cannot be read as a table"),
    ],
)
def test_tables_out_of_order_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    """A table that leaves an image out, names one twice, or is none, is refused with what is wrong."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(in_zip(tmp_path, {**UNDIVIDED, "groups.csv": content}), "test")


@pytest.mark.parametrize(
    ("second", "reason"),
    [("test/groups.csv", "two tables for the test part"), ("test/cat/groups.csv", "lies in a folder of images")],
)
def test_two_tables_are_refused(second: str, reason: str, tmp_path: Path) -> None:
    """There is one table for a part, beside its folders, and no guess which."""
    content = table(dict.fromkeys(DIVIDED, "a"))
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(in_zip(tmp_path, {**DIVIDED, "groups.csv": content, second: content}), "test")


@both
@pytest.mark.parametrize("named", ["train", "test"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_table_may_name_one_part_alone(place: Place, named: str, inside: bool, tmp_path: Path) -> None:
    """groups.csv of one part's images, beside the parts or in that part's folder, gives that part groups and the other none."""
    base = f"{named}/" if inside else ""
    rows = {name.removeprefix(base): "ab"[n % 2] for n, name in enumerate(DIVIDED) if name.startswith(named)}
    path = place(tmp_path, {**DIVIDED, f"{base}groups.csv": table(rows)})
    other = "train" if named == "test" else "test"
    assert [grouping.column for grouping in datasets.load(path, named).groups] == ["camera"]  # type: ignore[arg-type]
    assert datasets.load(path, other).groups == ()  # type: ignore[arg-type]


def test_each_part_may_have_a_table(tmp_path: Path) -> None:
    """A groups.csv in each part's folder speaks of that part, with columns of its own."""
    tables = {
        f"{part}/groups.csv": table(
            {f"{c}/{i}.png": part for c in ("ape", "cat") for i in range(3)}, f"image,{part} place"
        )
        for part in ("train", "test")
    }
    path = in_zip(tmp_path, {**DIVIDED, **tables})
    assert [datasets.load(path, part).groups[0].column for part in ("train", "test")] == ["train place", "test place"]  # type: ignore[arg-type]


def test_a_table_that_leaves_out_some_images_of_a_part_is_refused(tmp_path: Path) -> None:
    """A part is named whole or not at all, also where another part is named too."""
    rows = dict.fromkeys([name for name in DIVIDED if name != "test/cat/1.png"], "a")
    path = in_zip(tmp_path, {**DIVIDED, "groups.csv": table(rows)})
    assert len(datasets.load(path, "train").groups) == 1
    with pytest.raises(DatasetInvalid, match=r"test/cat/1\.png is not in it"):
        datasets.load(path, "test")


@pytest.mark.parametrize(
    ("separator", "ending", "prefix"),
    [(";", "\r\n", ""), ("\t", "\n", ""), (", ", "\n", "./"), (",", "\r\n\r\n", ".\\")],
)
def test_tables_as_other_programs_write_them(separator: str, ending: str, prefix: str, tmp_path: Path) -> None:
    """Semicolons, tabs, blanks after commas, blank lines and the path signs of other systems change nothing."""
    name = (lambda path: path.replace("/", "\\")) if prefix == ".\\" else (lambda path: path)
    rows = [f"image{separator}camera", *(f"{prefix}{name(image)}{separator}{image[0]}" for image in UNDIVIDED)]
    path = in_zip(tmp_path, {**UNDIVIDED, "groups.csv": ending.join(rows).encode()})
    (camera,) = datasets.load(path, "test").groups
    assert (camera.column, camera.names, camera.members.tolist()) == ("camera", ("a", "c"), [0, 0, 0, 1, 1, 1])
