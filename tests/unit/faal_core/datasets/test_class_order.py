"""The order of classes, and labels in the order of a classifier's classes."""

import numpy as np
import pytest
import torch

from faal_core.datasets.class_order import align_labels, order_names
from faal_core.datasets.data_warnings import examine_data
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.results.documents import ClassOrder
from faal_core.specs.class_names import normalise_name


def make_images(*names: str, order: ClassOrder = "assumed-string") -> LabelledImages:
    """Return one image of each class, whose level is its label's."""
    levels = torch.arange(len(names), dtype=torch.uint8).view(-1, 1, 1, 1) + 2
    return LabelledImages(levels, torch.arange(len(names)), names, "signs", "test", class_order=order)


def list_warning_codes(data: LabelledImages, names: tuple[str, ...] | None) -> list[str]:
    """Return the codes of the warnings about the images."""
    return [warning.code for warning in examine_data(data, names)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T-shirt/top", "T-shirt_top"),
        ("T-shirt/top", " t shirt-top "),
        ("Ankle boot", "ankle_boot"),
        ("Caf\u00e9", "cafe\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("Speed limit (20 km/h)", "Speed limit (20 km_h)"),
        ("a: b?", "a_ b_"),
        ("00007", "7"),
        ("000", "0"),
        ("\u0663\u0660", "30"),
        ("0" + "1" * 5000, "1" * 5000),
    ],
)
def test_names_that_are_the_same(one: str, other: str) -> None:
    """Names are compared after NFC, case folding, trimming and replacing separators that a folder's name cannot have."""
    assert normalise_name(one) == normalise_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cat", "car"), ("1", "10"), ("1" * 5000, "1" * 5001), ("ab", "a b"), ("Speed 20", "Speed 30"), ("/", "\\x")],
)
def test_names_that_differ(one: str, other: str) -> None:
    """Names differ if their letters, digits or the presence of a separator differ."""
    assert normalise_name(one) != normalise_name(other)


@pytest.mark.parametrize(
    ("names", "order", "expected", "order_name"),
    [
        ("0 1 2 10 11", None, "0 1 2 10 11", "assumed-natural"),
        ("0 1 2 10 11", "string", "0 1 10 11 2", "string"),
        ("0 1 2 10 11", "natural", "0 1 2 10 11", "natural"),
        ("00 01 02 10", None, "00 01 02 10", "assumed-natural"),
        ("c1 c2 c10", None, "c1 c10 c2", "assumed-string"),
        ("c1 c2 c10", "natural", "c1 c2 c10", "natural"),
        ("dog cat Owl", None, "Owl cat dog", "assumed-string"),
        ("1 2 10 x", None, "1 10 2 x", "assumed-string"),
        ("1 01 2", "natural", "01 1 2", "natural"),
    ],
)
def test_names_alone_are_ordered(names: str, order: str | None, expected: str, order_name: str) -> None:
    """Whole numbers are sorted by value, other names by characters, unless an order is given."""
    assert order_names(reversed(names.split()), order) == (tuple(expected.split()), order_name)


def test_names_decide_the_labels() -> None:
    """Where both name the same classes, each image gets the classifier's label for its class name."""
    network = ("T-shirt/top", "Trouser", "Bag")
    data = align_labels(make_images("Bag", "T-shirt_top", "trouser"), network, 3)
    assert data.labels.tolist() == [2, 0, 1]
    assert (data.class_names, data.class_order) == (network, "matched")
    assert list_warning_codes(data, network) == []
    assert align_labels(data, network, 3) is data


def test_other_labels_are_other_data() -> None:
    """The digest covers labels after alignment: a changed order is another data set."""
    data = make_images("a", "b", "c")
    assert align_labels(data, ("c", "b", "a"), 3).sha256 != data.sha256


@pytest.mark.parametrize(
    ("names", "names_in_error"), [(("b", "c", "d"), "'d'"), (("c", "a", "x", "y"), "'y'"), (("b", "x", "a"), "'x'")]
)
def test_shared_names_in_other_places_are_never_counted(names: tuple[str, ...], names_in_error: str) -> None:
    """Where only some names are shared and one of these has another position, an error lists the names that differ."""
    with pytest.raises(InvalidSpec, match=names_in_error) as error:
        align_labels(make_images("a", "b", "c"), names, len(names))
    assert error.value.remedy == "class-names"


def test_a_class_the_data_set_lacks_is_empty() -> None:
    """Classes that only the classifier has keep their positions, and a warning names those without images."""
    data = align_labels(make_images("dog", "ape"), ("ape", "cat", "dog"), 3)
    assert (data.labels.tolist(), data.classes_without_images) == ([2, 0], ("cat",))
    (warning,) = examine_data(data, ("ape", "cat", "dog"))
    assert warning.code == "classes-without-images"
    assert "'cat'" in warning.evidence


def test_names_alike_after_folding_are_compared_to_the_letter() -> None:
    """Two classes `a b` and `a_b` of one network stay two classes."""
    data = align_labels(make_images("a b", "a_b"), ("a_b", "a b"), 2)
    assert data.labels.tolist() == [1, 0]


@pytest.mark.parametrize("names", [("cat", "dog", "bird"), ("cat", "dog", "Vogel")])
def test_other_names_in_the_same_places_are_warned_of(names: tuple[str, ...]) -> None:
    """Where names differ and no shared one has another position, positions decide, and a warning lists the differing names."""
    data = align_labels(make_images("Katze", "Hund", "Vogel"), names, 3)
    assert data.labels.tolist() == [0, 1, 2]
    (warning,) = examine_data(data, names)
    assert warning.code == "class-names-differ"
    assert "'Katze' for 'cat'" in warning.evidence


def test_numbers_are_positions() -> None:
    """Class folders 0 … k−1 mean the classifier's outputs, whatever its class names are, also where a folder is missing."""
    network = tuple("abcdefghijkl")
    by_number = make_images("0", "1", "3", "10", "11", order="assumed-natural")
    data = align_labels(by_number, network, 12)
    assert data.labels.tolist() == [0, 1, 3, 10, 11]
    assert (data.class_names, list_warning_codes(data, network)) == (network, ["classes-without-images"])
    assert align_labels(by_number, None, 12).labels.tolist() == [0, 1, 3, 10, 11]
    zero_padded = make_images("000", "001", "010", order="assumed-natural")
    assert align_labels(zero_padded, None, 11).labels.tolist() == [0, 1, 10]


def test_stored_labels_stay() -> None:
    """Class names that are numbers do not change the labels of an array, or of a data set with stored labels."""
    data = make_images("2", "0", "1", order="stored")
    assert align_labels(data, ("a", "b", "c"), 3).labels.tolist() == [0, 1, 2]
    assert align_labels(data, None, 5) is data


def test_in_string_order_numbers_are_no_positions() -> None:
    """With string order requested, folder 10 is the network's third output."""
    data = make_images("0", "1", "10", order="string")
    assert align_labels(data, None, 11) is data


@pytest.mark.parametrize(
    ("names", "order", "has_warning"),
    [
        ("0 1 2 10", "assumed-natural", True),
        ("0 1 2 10", "natural", False),
        ("0 1 2", "assumed-natural", False),
        ("c1 c10 c2", "assumed-string", True),
        ("c1 c10 c2", "string", False),
        ("ape cat", "assumed-string", False),
        ("10 9", "stored", False),
    ],
)
def test_an_assumed_order_that_matters_raises_a_warning(names: str, order: ClassOrder, has_warning: bool) -> None:
    """Without the classifier's names, a warning states the assumed order if another order is possible and none was given."""
    data = make_images(*names.split(), order=order)
    assert list_warning_codes(data, None) == (["class-order-assumed"] if has_warning else [])


def test_black_images_raise_a_warning() -> None:
    """A warning reports images with no level but 0, as a cast of floats to uint8 leaves them."""
    black = LabelledImages(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "made", "test")
    assert list_warning_codes(black, None) == ["black-images"]
    assert (
        list_warning_codes(
            LabelledImages(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"), "made", "test"), None
        )
        == []
    )


def test_groups_stay_with_their_images() -> None:
    """A changed order of classes does not reorder images."""
    data = make_images("b", "a")
    assert np.array_equal(align_labels(data, ("a", "b"), 2).images.numpy(), data.images.numpy())
