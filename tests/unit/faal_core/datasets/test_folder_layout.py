"""Where images, parts, labels and links may lie, and what is said of those that lie elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from faal_core import datasets
from faal_core.errors import DatasetInvalid
from tests.unit.faal_core.datasets.test_image_folder import UNDIVIDED, Place, both, image, in_folder, in_zip


def parted(*folders: str) -> dict[str, bytes]:
    """Class folders below each of those, with a level for each folder."""
    return {
        f"{folder}/{name}/{i}.png": image(9 + n) for n, folder in enumerate(folders) for name in "ab" for i in range(2)
    }


def level(path: str, part: str) -> int:
    """The level of the part's images."""
    (only,) = datasets.load(path, part).images.unique().tolist()  # type: ignore[arg-type]
    return only


@both
@pytest.mark.parametrize("around", ["", "my set/", "test/"])
@pytest.mark.parametrize("folders", ["train val test", "training validation testing", "Train Valid TEST"])
def test_three_parts_are_read(place: Place, around: str, folders: str, tmp_path: Path) -> None:
    """Training, validation and test images are kept apart by their folders' usual names, in any case."""
    path = place(tmp_path, {around + name: content for name, content in parted(*folders.split()).items()})
    assert set(datasets.parts(path)) == {"train", "validation", "test"}
    assert [level(path, part) for part in ("train", "validation", "test")] == [9, 10, 11]


def test_validation_images_are_not_test_images(tmp_path: Path) -> None:
    """train/ and val/ alone have no test part, and the error says which there are."""
    with pytest.raises(DatasetInvalid, match=r"no test part.*There is: train, validation") as refused:
        datasets.load(in_zip(tmp_path, parted("train", "val")), "test")
    assert refused.value.remedy == "part"


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    """val/ and validation/ beside one another are refused by name."""
    with pytest.raises(DatasetInvalid, match="val and validation are both folders of the validation part"):
        datasets.load(in_zip(tmp_path, parted("val", "validation", "test")), "test")


@pytest.mark.parametrize("classes", ["train bus car", "train test", "val train test", "bullet_train bus", "Test Train"])
@pytest.mark.parametrize("around", ["", "vehicles/", "train_images/"])
@both
def test_classes_may_be_called_after_parts(place: Place, around: str, classes: str, tmp_path: Path) -> None:
    """Depth tells a class called train from a training part."""
    path = place(tmp_path, {f"{around}{name}/img_train_1.png": image(7) for name in classes.split()})
    assert datasets.parts(path) == ("test",)
    assert set(datasets.load(path, "test").class_names) == set(classes.split())


@both
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.png": image(), "2.png": image()}, "lie directly in the folder.*labels.csv"),
        ({**UNDIVIDED, "set.zip": b"PK"}, "set.zip is no image but an archive; pass the archive itself"),
        ({**UNDIVIDED, "arrays.npz": b"PK"}, "arrays.npz is no image but an archive"),
        ({**parted("train"), "test/0.png": image()}, "test/0.png lies in a part without a class folder"),
        ({**parted("train", "test"), "ape/0.png": image()}, "lies at another depth"),
    ],
)
def test_what_has_no_place_is_refused(place: Place, members: Mapping[str, bytes], reason: str, tmp_path: Path) -> None:
    """Images without a class, archives within and classes beside parts are refused with what to do."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(place(tmp_path, members), "test")


@pytest.mark.parametrize("around", ["", "my set/"])
@pytest.mark.parametrize("divided", [False, True])
def test_an_empty_class_folder_is_a_class(around: str, divided: bool, tmp_path: Path) -> None:
    """A class folder without images keeps the class's place, in a folder and in an archive that lists it; hidden ones do not."""
    members = parted("train", "test") if divided else UNDIVIDED
    part = "test/" if divided else ""
    folder = Path(in_folder(tmp_path, {around + name: content for name, content in members.items()}))
    archive = in_zip(tmp_path, {around + name: content for name, content in members.items()})
    for name in (f"{part}b2", f"{part}.cache"):
        (folder / around / name).mkdir()
        with ZipFile(archive, "a") as target:
            target.writestr(f"{around}{name}/", b"")
    for path in (str(folder), archive):
        data = datasets.load(path, "test")
        assert data.class_names == (("a", "b", "b2") if divided else ("ape", "b2", "cat"))
        assert data.classes_without_images == ("b2",)


@both
def test_what_other_systems_leave_is_ignored(place: Place, tmp_path: Path) -> None:
    """Thumbnails and settings of file managers are no data."""
    left = {"Thumbs.db": b"x", "cat/desktop.ini": b"x", "cat/Thumbs.db": b"x"}
    assert len(datasets.load(place(tmp_path, UNDIVIDED | left), "test")) == 6


FLAT = {"pictures/0.png": image(3), "pictures/1.png": image(4), "2.png": image(5)}


@both
@pytest.mark.parametrize("around", ["", "my set/"])
@pytest.mark.parametrize("header", ["image,label", "filename;class", "label\timage"])
def test_labels_may_come_as_a_table(place: Place, around: str, header: str, tmp_path: Path) -> None:
    """labels.csv names each image's class in place of folders, which then mean nothing."""
    separator = next(sign for sign in ",;\t" if sign in header)
    pairs = zip(FLAT, ("10", "9", "10"), strict=True)
    rows = [separator.join(pair if not header.startswith("label") else reversed(pair)) for pair in pairs]
    members = {**FLAT, "labels.csv": "\r\n".join([header, *rows]).encode("utf-8-sig")}
    data = datasets.load(place(tmp_path, {around + name: content for name, content in members.items()}), "test")
    assert data.class_names == ("9", "10")
    assert dict(zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True)) == {3: 1, 4: 0, 5: 1}


@both
@pytest.mark.parametrize("inside", [True, False])
def test_labels_of_each_part(place: Place, inside: bool, tmp_path: Path) -> None:
    """Parts may share one labels.csv beside them, or have one each."""
    members = {f"{part}/{i}.png": image(i) for part in ("train", "test") for i in (2, 3)}
    if inside:
        tables = {f"{part}/labels.csv": b"image,label\n2.png,owl\n3.png,ape\n" for part in ("train", "test")}
    else:
        rows = "".join(f"{name},{'owl' if '2.' in name else 'ape'}\n" for name in members)
        tables = {"labels.csv": f"image,label\n{rows}".encode()}
    path = place(tmp_path, members | tables)
    for part in ("train", "test"):
        data = datasets.load(path, part)  # type: ignore[arg-type]
        assert (data.class_names, data.labels.tolist()) == (("ape", "owl"), [1, 0])


@both
@pytest.mark.parametrize("around", ["", "my set/"])
@pytest.mark.parametrize("images", ["images", "test"])
def test_parts_below_the_folder_of_images_stay_apart(place: Place, around: str, images: str, tmp_path: Path) -> None:
    """With the tables beside one folder around the parts, training images are no test images; nor is anything deeper."""
    names = [f"{around}{images}/{part}/{i}.png" for part in ("train", "test") for i in (2, 3)]
    rows = [f"{name.removeprefix(around)},{'owl' if '2.' in name else 'ape'}" for name in names]
    tables = {
        f"{around}{table}.csv": "\n".join([f"image,{column}", *rows]).encode()
        for table, column in (("labels", "label"), ("groups", "bird"))
    }
    members = {name: image(7 + i) for i, name in enumerate(names)} | tables
    if around:
        with pytest.raises(DatasetInvalid, match="lies in a folder train of"):
            datasets.parts(place(tmp_path, members))
        return
    path = place(tmp_path, members)
    assert set(datasets.parts(path)) == {"train", "test"}
    for part, levels in (("train", [7, 8]), ("test", [9, 10])):
        data = datasets.load(path, part)  # type: ignore[arg-type]
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
    """Beside labels.csv, an image in a folder called after a part that it is not read as is refused, not taken for another's."""
    members = {f"{folder}/{i}.png": image(i) for folder in folders for i in (2, 3)}
    rows = "".join(f"{name},{'owl' if '2.' in name else 'ape'}\n" for name in members)
    with pytest.raises(DatasetInvalid, match=f"lies in a folder (train|val) of {part}"):
        datasets.load(in_zip(tmp_path, {**members, "labels.csv": f"image,label\n{rows}".encode()}), "test")


@pytest.mark.parametrize("around", ["", "my set/"])
@pytest.mark.parametrize("folders", [("train_images", "test_images"), ("Train2017", "val2017"), ("a-train", "test b")])
def test_folders_that_look_like_parts_are_not_joined(folders: tuple[str, str], around: str, tmp_path: Path) -> None:
    """Beside labels.csv, folders whose names hold those of two parts are refused; two of one part or of none are read."""

    def path(*names: str) -> str:
        members = [f"{name}/{i}.png" for name in names for i in (2, 3)]
        table = "\n".join(["image,label", *(f"{name},{name[-5]}" for name in members)]).encode()
        return in_zip(tmp_path, {f"{around}{name}": image(9) for name in members} | {f"{around}labels.csv": table})

    with pytest.raises(DatasetInvalid, match="look like parts"):
        datasets.parts(path(*folders))
    assert datasets.parts(path(folders[1], f"{folders[1]} more", "contest")) == ("test",)


def test_groups_beside_the_folder_around_the_parts(tmp_path: Path) -> None:
    """groups.csv may lie beside the one folder around class folders, and then names images by their paths from there."""
    members = {f"set/{name}": content for name, content in parted("train", "test").items()}
    table = "\n".join(["image,camera", *(f"{name},{name[-5]}" for name in members)])
    data = datasets.load(in_zip(tmp_path, {**members, "groups.csv": table.encode()}), "test")
    assert data.groups[0].names == ("0", "1")


def test_labels_of_images_in_class_folders(tmp_path: Path) -> None:
    """Beside class folders labels.csv is what counts."""
    rows = "".join(f"{name},{'odd' if '1.png' in name else 'even'}\n" for name in UNDIVIDED)
    data = datasets.load(in_zip(tmp_path, {**UNDIVIDED, "labels.csv": f"image,label\n{rows}".encode()}), "test")
    assert (data.class_names, data.labels.tolist()) == (("even", "odd"), [0, 1, 0] * 2)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("image,label\npictures/0.png,a\npictures/1.png,b", "2.png is not in it"),
        (
            "image,label\npictures/0.png,a\npictures/1.png,b\n2.png,a\n3.png,b",
            "names 3.png, and there is no such image",
        ),
        ("image,label\npictures/0.png,a\npictures/1.png,b\n2.png,a\n./2.png,b", "names 2.png twice"),
        ("image,label,label\n2.png,a,b", "two columns called 'label'"),
        ("image,label,width\n2.png,a,7", "label, width beside the image; it needs one"),
        ("image,kind\n2.png,a", "it needs one, `label`"),
        ("label\na", "no column `image`"),
        ("image,label\npictures/0.png,a\npictures/1.png,\n2.png,a", "1 to 100 characters"),
    ],
)
def test_labels_out_of_order_are_refused(table: str, reason: str, tmp_path: Path) -> None:
    """A table without an image's label, with a label for no image, or with other columns is refused with what is wrong."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(in_zip(tmp_path, {**FLAT, "labels.csv": table.encode()}), "test")


def test_labels_of_one_part_alone_are_refused(tmp_path: Path) -> None:
    """Where one part has its labels in a table, no other has them in folders."""
    rows = "".join(f"{name}/{i}.png,{name}\n" for name in "ab" for i in range(2))
    members = {**parted("train", "test"), "test/labels.csv": f"image,label\n{rows}".encode()}
    with pytest.raises(DatasetInvalid, match=r"no labels\.csv for the train part"):
        datasets.load(in_zip(tmp_path, members), "test")


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    """A linked file or class folder counts where the link lies."""
    folder = Path(in_folder(tmp_path, parted("train", "pool")))
    (folder / "test").mkdir()
    (folder / "test/a").symlink_to(folder / "pool/a")
    (folder / "test/b").mkdir()
    (folder / "test/b/x.png").symlink_to("../../pool/b/0.png")
    with pytest.raises(DatasetInvalid, match="another depth"):
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
        ("nowhere", "where there is nothing"),
        (".", "lies in itself"),
        ("cat", "lies in itself"),
    ],
)
def test_links_that_lead_away_are_refused(target: str, reason: str, tmp_path: Path) -> None:
    """A link out of the folder, to nothing, or to a folder around it is refused by name."""
    folder = Path(in_folder(tmp_path, UNDIVIDED))
    (folder / "cat/link").symlink_to(target if target == "/" else folder / target)
    with pytest.raises(DatasetInvalid, match=f"link is a link .*{reason}"):
        datasets.load(str(folder), "test")


def test_a_link_to_the_folder_itself_is_no_matter(tmp_path: Path) -> None:
    """The data set may be given by a link."""
    (tmp_path / "link").symlink_to(in_folder(tmp_path, UNDIVIDED))
    assert len(datasets.load(str(tmp_path / "link"), "test")) == 6


def test_unusual_files_are_refused(tmp_path: Path) -> None:
    """What is neither file nor folder is no image that could be passed over."""
    folder = in_folder(tmp_path, UNDIVIDED)
    os.mkfifo(Path(folder) / "cat/pipe.png")
    with pytest.raises(DatasetInvalid, match=r"pipe\.png is neither a file nor a folder"):
        datasets.load(folder, "test")


def test_named_sets_have_two_parts() -> None:
    """Parts of a named set are known without its files."""
    assert datasets.parts("cifar10") == ("train", "test")
