"""Where images, parts, labels and links may be, and the errors for wrong places."""

import os
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from faal_core import datasets
from faal_core.errors import DatasetInvalid
from tests.unit.faal_core.datasets.test_image_folder import (
    UNDIVIDED,
    Place,
    both,
    encode_image,
    write_folder,
    write_zip,
)


def make_parts(*folders: str) -> dict[str, bytes]:
    """Return class folders below each of those folders, with one level for each."""
    return {
        f"{folder}/{name}/{i}.png": encode_image(9 + n)
        for n, folder in enumerate(folders)
        for name in "ab"
        for i in range(2)
    }


def read_level(path: str, part: str) -> int:
    """Return the level of the part's images."""
    (only,) = datasets.load(path, part).images.unique().tolist()
    return only


@both
@pytest.mark.parametrize("parent", ["", "my set/", "test/"])
@pytest.mark.parametrize("folders", ["train val test", "training validation testing", "Train Valid TEST"])
def test_three_parts_are_read(place: Place, parent: str, folders: str, tmp_path: Path) -> None:
    """Training, validation and test images are distinguished by their folders' usual names, in any case."""
    path = place(tmp_path, {parent + name: content for name, content in make_parts(*folders.split()).items()})
    assert set(datasets.list_parts(path)) == {"train", "validation", "test"}
    assert [read_level(path, part) for part in ("train", "validation", "test")] == [9, 10, 11]


def test_validation_images_are_not_test_images(tmp_path: Path) -> None:
    """train/ and val/ alone have no test part, and the error lists their parts."""
    with pytest.raises(DatasetInvalid, match=r"no test part.*Its parts: train, validation") as error:
        datasets.load(write_zip(tmp_path, make_parts("train", "val")), "test")
    assert error.value.remedy == "part"


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    """val/ and validation/ beside each other are refused by name."""
    with pytest.raises(DatasetInvalid, match="val and validation are both folders of the validation part"):
        datasets.load(write_zip(tmp_path, make_parts("val", "validation", "test")), "test")


@pytest.mark.parametrize("classes", ["train bus car", "train test", "val train test", "bullet_train bus", "Test Train"])
@pytest.mark.parametrize("parent", ["", "vehicles/", "train_images/"])
@both
def test_classes_may_be_called_after_parts(place: Place, parent: str, classes: str, tmp_path: Path) -> None:
    """Depth distinguishes a class called train from a training part."""
    path = place(tmp_path, {f"{parent}{name}/img_train_1.png": encode_image(7) for name in classes.split()})
    assert datasets.list_parts(path) == ("test",)
    assert set(datasets.load(path, "test").class_names) == set(classes.split())


@both
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.png": encode_image(), "2.png": encode_image()}, "are directly in the folder.*labels.csv"),
        ({**UNDIVIDED, "set.zip": b"PK"}, "set.zip is an archive, not an image; pass the archive itself"),
        ({**UNDIVIDED, "arrays.npz": b"PK"}, "arrays.npz is an archive, not an image"),
        ({**make_parts("train"), "test/0.png": encode_image()}, "test/0.png is in a part but in no class folder"),
        ({**make_parts("train", "test"), "ape/0.png": encode_image()}, "is at the wrong depth"),
    ],
)
def test_misplaced_files_are_refused(place: Place, members: Mapping[str, bytes], reason: str, tmp_path: Path) -> None:
    """Images without a class, archives inside and classes beside parts are refused with advice."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(place(tmp_path, members), "test")


@pytest.mark.parametrize("parent", ["", "my set/"])
@pytest.mark.parametrize("has_parts", [False, True])
def test_an_empty_class_folder_is_a_class(parent: str, has_parts: bool, tmp_path: Path) -> None:
    """An empty class folder keeps its position, in a folder and in an archive that lists it; hidden folders do not count."""
    members = make_parts("train", "test") if has_parts else UNDIVIDED
    part = "test/" if has_parts else ""
    folder = Path(write_folder(tmp_path, {parent + name: content for name, content in members.items()}))
    archive = write_zip(tmp_path, {parent + name: content for name, content in members.items()})
    for name in (f"{part}b2", f"{part}.cache"):
        (folder / parent / name).mkdir()
        with ZipFile(archive, "a") as target:
            target.writestr(f"{parent}{name}/", b"")
    for path in (str(folder), archive):
        data = datasets.load(path, "test")
        assert data.class_names == (("a", "b", "b2") if has_parts else ("ape", "b2", "cat"))
        assert data.classes_without_images == ("b2",)


@both
def test_files_of_file_managers_are_ignored(place: Place, tmp_path: Path) -> None:
    """Thumbnails and settings of file managers are ignored."""
    member = {"Thumbs.db": b"x", "cat/desktop.ini": b"x", "cat/Thumbs.db": b"x"}
    assert len(datasets.load(place(tmp_path, UNDIVIDED | member), "test")) == 6


FLAT = {"pictures/0.png": encode_image(3), "pictures/1.png": encode_image(4), "2.png": encode_image(5)}


@both
@pytest.mark.parametrize("parent", ["", "my set/"])
@pytest.mark.parametrize("header", ["image,label", "filename;class", "label\timage"])
def test_labels_may_come_as_a_table(place: Place, parent: str, header: str, tmp_path: Path) -> None:
    """labels.csv decides each image's class, and folder names are ignored."""
    separator = next(sign for sign in ",;\t" if sign in header)
    pairs = zip(FLAT, ("10", "9", "10"), strict=True)
    rows = [separator.join(pair if not header.startswith("label") else reversed(pair)) for pair in pairs]
    members = {**FLAT, "labels.csv": "\r\n".join([header, *rows]).encode("utf-8-sig")}
    data = datasets.load(place(tmp_path, {parent + name: content for name, content in members.items()}), "test")
    assert data.class_names == ("9", "10")
    assert dict(zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True)) == {3: 1, 4: 0, 5: 1}


@both
@pytest.mark.parametrize("one_each", [True, False])
def test_labels_of_each_part(place: Place, one_each: bool, tmp_path: Path) -> None:
    """Parts may share one labels.csv beside them, or have one each."""
    members = {f"{part}/{i}.png": encode_image(i) for part in ("train", "test") for i in (2, 3)}
    if one_each:
        tables = {f"{part}/labels.csv": b"image,label\n2.png,owl\n3.png,ape\n" for part in ("train", "test")}
    else:
        rows = "".join(f"{name},{'owl' if '2.' in name else 'ape'}\n" for name in members)
        tables = {"labels.csv": f"image,label\n{rows}".encode()}
    path = place(tmp_path, members | tables)
    for part in ("train", "test"):
        data = datasets.load(path, part)
        assert (data.class_names, data.labels.tolist()) == (("ape", "owl"), [1, 0])


@both
@pytest.mark.parametrize("parent", ["", "my set/"])
@pytest.mark.parametrize("images", ["images", "test"])
def test_parts_below_the_folder_of_images_stay_apart(place: Place, parent: str, images: str, tmp_path: Path) -> None:
    """With the tables beside one folder around the parts, the parts stay apart; one folder more is refused."""
    names = [f"{parent}{images}/{part}/{i}.png" for part in ("train", "test") for i in (2, 3)]
    rows = [f"{name.removeprefix(parent)},{'owl' if '2.' in name else 'ape'}" for name in names]
    tables = {
        f"{parent}{table}.csv": "\n".join([f"image,{column}", *rows]).encode()
        for table, column in (("labels", "label"), ("groups", "bird"))
    }
    members = {name: encode_image(7 + i) for i, name in enumerate(names)} | tables
    if parent:
        with pytest.raises(DatasetInvalid, match="is in a folder train of"):
            datasets.list_parts(place(tmp_path, members))
        return
    path = place(tmp_path, members)
    assert set(datasets.list_parts(path)) == {"train", "test"}
    for part, levels in (("train", [7, 8]), ("test", [9, 10])):
        data = datasets.load(path, part)
        assert data.images[:, 0, 0, 0].tolist() == levels
        assert [data.groups[0].names[group] for group in data.groups[0].members] == ["owl", "ape"]


@pytest.mark.parametrize(
    ("folders", "part"),
    [
        (("train", "other"), "a data set without parts"),
        (("a/train", "b/test"), "a data set without parts"),
        (("test/train", "test/new"), "the test part"),
        (("set/a/val", "set/a/x"), "a data set without parts"),
    ],
)
def test_images_of_another_part_are_refused(folders: tuple[str, str], part: str, tmp_path: Path) -> None:
    """Beside labels.csv, an image is refused if a folder around it has the name of another part."""
    members = {f"{folder}/{i}.png": encode_image(i) for folder in folders for i in (2, 3)}
    rows = "".join(f"{name},{'owl' if '2.' in name else 'ape'}\n" for name in members)
    with pytest.raises(DatasetInvalid, match=f"is in a folder (train|val) of {part}"):
        datasets.load(write_zip(tmp_path, {**members, "labels.csv": f"image,label\n{rows}".encode()}), "test")


@pytest.mark.parametrize("parent", ["", "my set/"])
@pytest.mark.parametrize("folders", [("train_images", "test_images"), ("Train2017", "val2017"), ("a-train", "test b")])
def test_folders_that_look_like_parts_are_not_joined(folders: tuple[str, str], parent: str, tmp_path: Path) -> None:
    """Beside labels.csv, folders whose names contain two parts are refused; those with one part or none are read."""

    def path(*names: str) -> str:
        members = [f"{name}/{i}.png" for name in names for i in (2, 3)]
        table = "\n".join(["image,label", *(f"{name},{name[-5]}" for name in members)]).encode()
        return write_zip(
            tmp_path, {f"{parent}{name}": encode_image(9) for name in members} | {f"{parent}labels.csv": table}
        )

    with pytest.raises(DatasetInvalid, match="look like parts"):
        datasets.list_parts(path(*folders))
    assert datasets.list_parts(path(folders[1], f"{folders[1]} more", "contest")) == ("test",)


def test_groups_beside_the_folder_around_the_parts(tmp_path: Path) -> None:
    """groups.csv may be beside the one folder around class folders, and then has the images' paths from there."""
    members = {f"set/{name}": content for name, content in make_parts("train", "test").items()}
    table = "\n".join(["image,camera", *(f"{name},{name[-5]}" for name in members)])
    data = datasets.load(write_zip(tmp_path, {**members, "groups.csv": table.encode()}), "test")
    assert data.groups[0].names == ("0", "1")


def test_labels_of_images_in_class_folders(tmp_path: Path) -> None:
    """labels.csv overrides class folders."""
    rows = "".join(f"{name},{'odd' if '1.png' in name else 'even'}\n" for name in UNDIVIDED)
    data = datasets.load(write_zip(tmp_path, {**UNDIVIDED, "labels.csv": f"image,label\n{rows}".encode()}), "test")
    assert (data.class_names, data.labels.tolist()) == (("even", "odd"), [0, 1, 0] * 2)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("image,label\npictures/0.png,a\npictures/1.png,b", "no row for 2.png"),
        (
            "image,label\npictures/0.png,a\npictures/1.png,b\n2.png,a\n3.png,b",
            "lists 3.png, but there is no such image",
        ),
        ("image,label\npictures/0.png,a\npictures/1.png,b\n2.png,a\n./2.png,b", "lists 2.png twice"),
        ("image,label,label\n2.png,a,b", "two columns called 'label'"),
        ("image,label,width\n2.png,a,7", "label, width beside the image; exactly one, `label`"),
        ("image,kind\n2.png,a", "exactly one, `label`, is allowed"),
        ("label\na", "no column `image`"),
        ("image,label\npictures/0.png,a\npictures/1.png,\n2.png,a", "1 to 100 characters"),
    ],
)
def test_labels_out_of_order_are_refused(table: str, reason: str, tmp_path: Path) -> None:
    """A table that lacks an image's label, has a label for a missing image, or has other columns is refused with the reason."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_zip(tmp_path, {**FLAT, "labels.csv": table.encode()}), "test")


def test_labels_of_one_part_alone_are_refused(tmp_path: Path) -> None:
    """If one part has its labels in a table, no other part may have them in folders."""
    rows = "".join(f"{name}/{i}.png,{name}\n" for name in "ab" for i in range(2))
    members = {**make_parts("train", "test"), "test/labels.csv": f"image,label\n{rows}".encode()}
    with pytest.raises(DatasetInvalid, match=r"no labels\.csv for the train part"):
        datasets.load(write_zip(tmp_path, members), "test")


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    """A linked file or class folder counts at the place of the link."""
    folder = Path(write_folder(tmp_path, make_parts("train", "pool")))
    (folder / "test").mkdir()
    (folder / "test/a").symlink_to(folder / "pool/a")
    (folder / "test/b").mkdir()
    (folder / "test/b/x.png").symlink_to("../../pool/b/0.png")
    with pytest.raises(DatasetInvalid, match="the wrong depth"):
        datasets.load(str(folder), "test")
    (folder / "pool").rename(folder / "val")
    (folder / "test/a").unlink()
    (folder / "test/a").symlink_to("../val/a")
    (folder / "test/b/x.png").unlink()
    (folder / "test/b/x.png").symlink_to("../../val/b/0.png")
    assert len(datasets.load(str(folder), "test")) == 3


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("..", "outside"),
        ("/", "outside"),
        ("nowhere", "which does not exist"),
        (".", "that contains it"),
        ("cat", "that contains it"),
    ],
)
def test_links_that_lead_away_are_refused(target: str, reason: str, tmp_path: Path) -> None:
    """A link out of the folder, to a missing file, or to a folder around it is refused by name."""
    folder = Path(write_folder(tmp_path, UNDIVIDED))
    (folder / "cat/link").symlink_to(target if target == "/" else folder / target)
    with pytest.raises(DatasetInvalid, match=f"link is a link .*{reason}"):
        datasets.load(str(folder), "test")


def test_a_link_to_the_folder_itself_is_no_matter(tmp_path: Path) -> None:
    """The data set's path may be a link."""
    (tmp_path / "link").symlink_to(write_folder(tmp_path, UNDIVIDED))
    assert len(datasets.load(str(tmp_path / "link"), "test")) == 6


def test_unusual_files_are_refused(tmp_path: Path) -> None:
    """An entry that is neither file nor folder is refused, not skipped."""
    folder = write_folder(tmp_path, UNDIVIDED)
    os.mkfifo(Path(folder) / "cat/pipe.png")
    with pytest.raises(DatasetInvalid, match=r"pipe\.png is neither a file nor a folder"):
        datasets.load(folder, "test")


def test_named_sets_have_two_parts() -> None:
    """The parts of a named data set are known without its files."""
    assert datasets.list_parts("cifar10") == ("train", "test")
