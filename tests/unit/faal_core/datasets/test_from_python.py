"""Images as a caller in Python has them: class names matched by name, groups of tables, and one digest for the same pixels."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

import faal_core as faal
from faal_core.classifier import Classifier
from faal_core.datasets.from_python import label_images
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.errors import DatasetInvalid, FaalError, InvalidSpec
from faal_core.torchvision_import import torchvision
from tests.linear_classifier import build_linear_classifier

LEVELS = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(30) % 3
FOLDERS = ("cat", "dog", "frog")


def wrap(num_classes: int, class_names: list[str] | None = None) -> Classifier:
    """Return a linear classifier of that many classes."""
    network = build_linear_classifier(num_classes, (3, 8, 8)).backbone
    return Classifier.wrap(network, num_classes=num_classes, class_names=class_names)


def label(images: Any, labels: Any = None, classifier: Classifier | None = None, **options: Any) -> LabelledImages:
    """Return the images in the order of the classifier's classes."""
    classifier = classifier or wrap(3)
    classifier.adapt_to_channels(3)
    return match_classes(classifier, label_images(images, labels, classifier, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a data set of torchvision with the images of each class in a folder."""
    root: Path = tmp_path_factory.mktemp("images")
    for row, levels in enumerate(LEVELS):
        path = root / FOLDERS[int(LABELS[row])] / f"{row:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(levels.permute(1, 2, 0).numpy()).save(path)
    return torchvision.datasets.ImageFolder(root, torchvision.transforms.ToTensor())


@pytest.mark.parametrize(
    "names", [["bird", "cat", "deer", "dog", "frog"], ["frog", "cat", "dog"]], ids=["more classes", "another order"]
)
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: Subset(data, range(30)),
        lambda data: ConcatDataset([Subset(data, range(10)), Subset(data, range(10, 30))]),
        lambda data: DataLoader(Subset(data, range(30)), batch_size=8),
    ],
    ids=["folder", "subset", "concatenation", "loader of a subset"],
)
def test_class_names_of_a_data_set_are_matched_by_name(folder: Any, names: list[str], change: Any) -> None:
    """Each image has the row of the classifier's class of that name, through each wrapper."""
    data = label(change(folder), classifier=wrap(len(names), names))
    assert data.class_names == tuple(names)
    assert [names[number] for number in data.labels] == [FOLDERS[place] for _, place in folder.samples]


def test_an_audit_reports_a_folder_by_the_rows_of_its_classes(folder: Any) -> None:
    """Three folders beside five named classes: the report counts images of those three alone."""
    names = ["bird", "cat", "deer", "dog", "frog"]
    result = faal.audit(wrap(5, names), folder, epsilon="1/255", attacks="quick", progress=False)
    frame = result.to_frame()
    counts = dict(zip(frame["class"], frame["images"], strict=True))
    assert {name: counts.get(name, 0) for name in names} == {"bird": 0, "cat": 10, "deer": 0, "dog": 10, "frog": 10}


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (wrap(5), "5 classes and ImageFolder has 3: 'cat', 'dog', 'frog'"),
        (wrap(5, list("abcde")), "5 classes and ImageFolder has 3"),
        (wrap(4, ["dog", "cat", "cow", "hen"]), "share 2 class names"),
    ],
)
def test_class_names_that_do_not_match_are_refused_by_name(folder: Any, classifier: Classifier, message: str) -> None:
    """Names of another count are never dropped."""
    with pytest.raises(InvalidSpec, match=message):
        label(folder, classifier=classifier)


def test_class_names_of_the_caller_win(folder: Any) -> None:
    """A caller who knows the rows names them."""
    assert (
        label(folder, classifier=wrap(5), class_names=list("abcde")).labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    )


def test_joined_data_sets_with_different_class_names_are_refused(folder: Any) -> None:
    """The same label would mean different classes."""
    other: Any = TensorDataset(LEVELS / 255, LABELS)
    other.classes = ["ant", "bee", "cat"]
    with pytest.raises(DatasetInvalid, match="joined have different class names"):
        label(ConcatDataset([folder, other]))


def read_pillow(row: int) -> Image.Image:
    """Return an image as Pillow has it."""
    return Image.fromarray(LEVELS[row].permute(1, 2, 0).numpy())


class Rows:
    """Has a length, items and features, as the data sets of Hugging Face."""

    def __init__(self, *names: str) -> None:
        self.features = {"image": None, "label": SimpleNamespace(names=list(names))} if names else None

    def __len__(self) -> int:
        return 30

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"image": read_pillow(row), "label": int(LABELS[row])}


def test_class_names_of_features_are_matched_by_name() -> None:
    """The label's entry of the features names the classes."""
    assert label(Rows(*FOLDERS), classifier=wrap(3, ["frog", "cat", "dog"])).labels.tolist() == [1, 2, 0] * 10


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (LEVELS.numpy(), LABELS),
        (LEVELS / 255, LABELS),
        (LEVELS.double().numpy() / 255, LABELS),
        ((LEVELS, LABELS), None),
        ([(image, number) for image, number in zip(LEVELS / 255, LABELS, strict=True)], None),
        (Rows(), None),
        (DataLoader(TensorDataset(LEVELS / 255, LABELS), batch_size=7), None),
    ],
    ids=["arrays", "floats", "double", "pair", "list of pairs", "items of another library", "loader"],
)
def test_the_same_pixels_have_one_digest(images: Any, labels: Any) -> None:
    """Levels, levels divided by 255 and loaders give the same data set, whose pixels are exactly those of the floats."""
    data, reference = label(images, labels), label(LEVELS, LABELS)
    assert data.sha256 == reference.sha256
    assert torch.equal(data.pixels(slice(None), torch.device("cpu")), LEVELS / 255)


def test_every_level_comes_back_as_the_same_float() -> None:
    """All 256 levels divided by 255 are stored as levels; a value beside one of them is not."""
    every_level = (torch.arange(256) / 255).view(1, 1, 16, 16).expand(3, 1, 16, 16)
    data = label_images(every_level, LABELS[:3], wrap(3))
    assert data.images.dtype == torch.uint8
    assert torch.equal(data.pixels(slice(None), torch.device("cpu")), every_level)
    between = every_level.clone()
    between[2, 0, 15, 0] = torch.nextafter(between[2, 0, 15, 0], torch.tensor(1.0))
    stored: Tensor = label_images(between, LABELS[:3], wrap(3)).images
    assert torch.equal(stored, between)


@pytest.mark.parametrize("names", [np.array(FOLDERS), pd.Index(FOLDERS), pd.Series(FOLDERS), FOLDERS], ids=type)
def test_class_names_are_taken_from_each_kind_of_list(names: Any) -> None:
    """Arrays, indexes and columns name the classes as lists do."""
    assert label(LEVELS, LABELS, class_names=names).class_names == FOLDERS


@pytest.mark.parametrize(
    "names",
    ["abc", set(FOLDERS), {"cat": 0, "dog": 1, "frog": 2}, [], [None, "a", "b"], 3],
    ids=["text", "set", "mapping", "nothing", "no text", "number"],
)
def test_class_names_without_an_order_are_refused(names: Any) -> None:
    """A text is no list of its letters, and sets have no order."""
    with pytest.raises(InvalidSpec, match=r"class_names is .*; pass a list with the name of each class"):
        label(LEVELS, LABELS, class_names=names)


SIDES = ["left", "right"] * 15


@pytest.mark.parametrize(
    "groups",
    [
        {"side": pd.Series(SIDES, index=range(100, 130))},
        {"side": pd.Series(SIDES, dtype=object)},
        {"side": pd.Categorical(SIDES)},
        {"side": np.array(SIDES, dtype=object)},
        pd.DataFrame({"side": SIDES}),
    ],
    ids=["series", "objects", "categories", "array of objects", "table"],
)
def test_groups_are_taken_from_tables(groups: Any) -> None:
    """Columns of pandas give the groups that a list gives."""
    (grouping,) = label(LEVELS, LABELS, groups=groups).groups
    (reference,) = label(LEVELS, LABELS, groups={"side": SIDES}).groups
    assert (grouping.column, grouping.names) == ("side", ("left", "right"))
    assert np.array_equal(grouping.members, reference.members)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"side": np.array(SIDES) == "left"}, "must be strings or whole numbers.*not bool"),
        ({"side": np.array([True] * 30, dtype=object)}, "must be strings or whole numbers"),
        ({"side": pd.Series([None, *SIDES[1:]], dtype=object)}, "must be strings or whole numbers"),
        (SIDES, "groups is a list; pass a mapping"),
        (pd.Series(SIDES), "groups is a Series; pass a mapping"),
    ],
    ids=["bool", "objects that are bool", "missing", "list", "series"],
)
def test_groups_of_another_form_are_refused_by_name(groups: Any, message: str) -> None:
    """Truth values, missing values and columns without a name have a message."""
    with pytest.raises(FaalError, match=message):
        label(LEVELS, LABELS, groups=groups)


def test_conversions_of_pillow_images_are_reported() -> None:
    """The report says how many images were converted."""
    pairs = [(read_pillow(row).convert("CMYK"), int(LABELS[row])) for row in range(30)]
    assert label(pairs).preparation == ("30 CMYK images converted to RGB by Pillow, without a colour profile.",)
