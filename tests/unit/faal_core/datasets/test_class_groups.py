"""Groups of classes: tables that are read, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from faal_core import datasets
from faal_core.errors import DatasetInvalid
from tests.unit.faal_core.datasets.test_image_folder import DIVIDED, Place, both, encode_image

CLASSES = DIVIDED | {f"{part}/bee hive/0.png": encode_image() for part in ("train", "test")}
TABLE = "class,group\ncat,mammal\nape,mammal\nbee hive,insect\n"


def load_groups(path: str, groups: Path | None = None) -> dict[str, list[str]]:
    """Return the group of each test image, by column."""
    data = datasets.load(path, "test", class_groups=groups)
    return {
        grouping.column: [grouping.names[member] for member in grouping.members.tolist()] for grouping in data.groups
    }


EXPECTED = {"group": ["mammal"] * 3 + ["insect"] + ["mammal"] * 3}


@both
@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        "\ufeff" + TABLE.replace(",", ";"),
        "group\tclass\nmammal\tape\ninsect\tBee_Hive\n\nmammal\tcat\n",
        json.dumps({"cat": "mammal", "ape": "mammal", "bee hive": "insect"}),
    ],
)
def test_a_table_gives_every_image_the_group_of_its_class(place: Place, content: str, tmp_path: Path) -> None:
    """A table or JSON object, as an option or within the data set, adds a column of groups."""
    (tmp_path / "groups").write_text(content)
    assert load_groups(place(tmp_path, CLASSES), tmp_path / "groups") == EXPECTED
    assert load_groups(place(tmp_path, CLASSES | {"class_groups.csv": content.encode()})) == EXPECTED


def test_several_columns_and_groups_of_images(tmp_path: Path) -> None:
    """Each column of the table is a column of groups, beside those of images; columns of one name are refused."""
    arrays = {"images": np.arange(64, dtype=np.uint8).reshape(4, 4, 4), "labels": np.array([0, 1, 1, 0])}
    np.savez(tmp_path / "set.npz", **arrays, group_camera=np.array([1, 1, 2, 2]))
    (tmp_path / "groups.csv").write_text("class,size,home\n0,small,sea\n1,large,land\n")
    path = str(tmp_path / "set.npz")
    assert load_groups(path, tmp_path / "groups.csv") == {
        "camera": ["1", "1", "2", "2"],
        "size": ["small", "large", "large", "small"],
        "home": ["sea", "land", "land", "sea"],
    }
    (tmp_path / "groups.csv").write_text("class,camera\n0,small\n1,large\n")
    with pytest.raises(DatasetInvalid, match="already has groups in a column 'camera'"):
        load_groups(path, tmp_path / "groups.csv")


def test_an_archive_of_arrays_has_groups_of_classes(tmp_path: Path) -> None:
    """The array class_groups has a group for each class."""
    arrays = {"images": np.arange(64, dtype=np.uint8).reshape(4, 4, 4), "labels": np.array([0, 1, 1, 0])}
    np.savez(tmp_path / "set.npz", **arrays, class_groups=np.array(["x", "y"]))
    assert load_groups(str(tmp_path / "set.npz")) == {"group": ["x", "y", "y", "x"]}
    for wrong in (np.array(["x"]), np.array([0.5, 1])):
        np.savez(tmp_path / "set.npz", **arrays, class_groups=wrong)
        with pytest.raises(
            DatasetInvalid, match="class_groups must be strings or whole numbers, one for each of 2 classes"
        ):
            load_groups(str(tmp_path / "set.npz"))


def test_a_named_set_has_groups_of_an_option(tmp_path: Path) -> None:
    """The bundled set takes groups of its classes from a file."""
    names = datasets.load("fashion-mnist-subset", "test").class_names
    (tmp_path / "groups.json").write_text(json.dumps({name: i % 2 for i, name in enumerate(names)}))
    data = datasets.load("fashion-mnist-subset", "test", class_groups=tmp_path / "groups.json")
    assert [grouping.names for grouping in data.groups] == [("0", "1")]
    assert np.array_equal(data.groups[0].members, data.labels.numpy() % 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            TABLE + "dog,mammal\n",
            "has a group for 'dog', but set has no such class. Its classes: 'ape', 'bee hive', 'cat'",
        ),
        ("class,group\ncat,mammal\n", "has no group for 'ape', 'bee hive'. Every class needs one"),
        (TABLE + "Bee-Hive,insect\n", "has the class 'bee hive' twice"),
        ("class,a,a\ncat,1,2\n", "has the column 'a' twice"),
        (TABLE + "x\n", "row 5 has 1 cells; the first has 2"),
        ("cat,mammal\n", "needs the columns `class` and `group`; its first line is 'cat, mammal'"),
        ("class\ncat\n", "needs the columns `class` and `group`"),
        ("", "needs the columns `class` and `group`"),
        (TABLE.replace("insect", ""), "a group of 'group' is called ''"),
        (TABLE.replace("insect", "a" * 300), "a group of 'group' is called 'aaa"),
        (TABLE.replace("insect", '"a\nb"'), "a group of 'group' is called"),
        (json.dumps({"cat": ["mammal"]}), "the group of 'cat' is neither a string nor a whole number"),
        ('{"cat": "x", "cat": "y"}', "has the class 'cat' twice"),
        ('{"cat": ', "cannot be read as class groups"),
        ("\udcff", "cannot be read as class groups"),
        ("class," + ",".join(f"c{i}" for i in range(11)) + "\n", "11 columns of groups; at most 10"),
        ("class,group\n" + "x,y\n" * 2**21, "has more than 4,194,304 bytes"),
    ],
)
def test_broken_tables_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    """Unknown, missing and repeated classes, and tables that cannot be read, are refused with the value."""
    (tmp_path / "groups.csv").write_text(content, errors="surrogateescape")
    for name, image in CLASSES.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    with pytest.raises(DatasetInvalid, match=reason):
        load_groups(str(tmp_path / "set"), tmp_path / "groups.csv")
