"""In which order classes are, and that labels mean the class that the classifier means."""

import numpy as np
import pytest
import torch

from faal_core.datasets.class_order import aligned, ordered
from faal_core.datasets.data_warnings import examine_data
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.results.documents import ClassOrder
from faal_core.specs.class_names import comparable


def named(*names: str, order: ClassOrder = "assumed-string") -> LabelledImages:
    """One image of each class, whose level is its label's."""
    levels = torch.arange(len(names), dtype=torch.uint8).view(-1, 1, 1, 1) + 2
    return LabelledImages(levels, torch.arange(len(names)), names, "signs", "test", class_order=order)


def codes(data: LabelledImages, names: tuple[str, ...] | None) -> list[str]:
    """The warnings about the images, by their codes."""
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
    """Names are compared after NFC, case folding, trimming and folding of separators that a folder cannot have."""
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cat", "car"), ("1", "10"), ("1" * 5000, "1" * 5001), ("ab", "a b"), ("Speed 20", "Speed 30"), ("/", "\\x")],
)
def test_names_that_differ(one: str, other: str) -> None:
    """Letters, digits and whether there is a separator at all tell names apart."""
    assert comparable(one) != comparable(other)


@pytest.mark.parametrize(
    ("names", "order", "expected", "called"),
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
def test_names_alone_are_ordered(names: str, order: str | None, expected: str, called: str) -> None:
    """Whole numbers are sorted by value, other names by characters, unless an order is asked for."""
    assert ordered(reversed(names.split()), order) == (tuple(expected.split()), called)  # type: ignore[arg-type]


def test_names_decide_the_labels() -> None:
    """Where both name the same classes, each image gets the label that the classifier has for its class's name."""
    network = ("T-shirt/top", "Trouser", "Bag")
    data = aligned(named("Bag", "T-shirt_top", "trouser"), network, 3)
    assert data.labels.tolist() == [2, 0, 1]
    assert (data.class_names, data.class_order) == (network, "matched")
    assert codes(data, network) == []
    assert aligned(data, network, 3) is data


def test_other_labels_are_other_data() -> None:
    """The digest covers labels as they are counted: a changed order is another data set."""
    data = named("a", "b", "c")
    assert aligned(data, ("c", "b", "a"), 3).sha256 != data.sha256


@pytest.mark.parametrize(
    ("names", "named_too"), [(("b", "c", "d"), "'d'"), (("c", "a", "x", "y"), "'y'"), (("b", "x", "a"), "'x'")]
)
def test_shared_names_in_other_places_are_never_counted(names: tuple[str, ...], named_too: str) -> None:
    """Where only some names are shared and one of these stands elsewhere, both are refused with the names that differ."""
    with pytest.raises(InvalidSpec, match=named_too) as refused:
        aligned(named("a", "b", "c"), names, len(names))
    assert refused.value.remedy == "class-names"


def test_a_class_the_data_set_lacks_is_empty() -> None:
    """Names of which the classifier has more keep their places; the classes without images are warned of by name."""
    data = aligned(named("dog", "ape"), ("ape", "cat", "dog"), 3)
    assert (data.labels.tolist(), data.classes_without_images) == ([2, 0], ("cat",))
    (warning,) = examine_data(data, ("ape", "cat", "dog"))
    assert warning.code == "classes-without-images"
    assert "'cat'" in warning.evidence


def test_names_alike_after_folding_are_compared_to_the_letter() -> None:
    """Two classes `a b` and `a_b` of one network stay two."""
    data = aligned(named("a b", "a_b"), ("a_b", "a b"), 2)
    assert data.labels.tolist() == [1, 0]


@pytest.mark.parametrize("names", [("cat", "dog", "bird"), ("cat", "dog", "Vogel")])
def test_other_names_in_the_same_places_are_warned_of(names: tuple[str, ...]) -> None:
    """Where some or all names differ and no shared one is misplaced, positions count, and the report says which differ."""
    data = aligned(named("Katze", "Hund", "Vogel"), names, 3)
    assert data.labels.tolist() == [0, 1, 2]
    (warning,) = examine_data(data, names)
    assert warning.code == "class-names-differ"
    assert "'Katze' for 'cat'" in warning.evidence


def test_numbers_are_positions() -> None:
    """Class folders 0 … k−1 stand for the classifier's outputs, whatever it calls them, also where one is missing."""
    network = tuple("abcdefghijkl")
    by_number = named("0", "1", "3", "10", "11", order="assumed-natural")
    data = aligned(by_number, network, 12)
    assert data.labels.tolist() == [0, 1, 3, 10, 11]
    assert (data.class_names, codes(data, network)) == (network, ["classes-without-images"])
    assert aligned(by_number, None, 12).labels.tolist() == [0, 1, 3, 10, 11]
    zero_padded = named("000", "001", "010", order="assumed-natural")
    assert aligned(zero_padded, None, 11).labels.tolist() == [0, 1, 10]


def test_stored_labels_stay() -> None:
    """Numbers that name the classes of an array or a set with labels of its own change none of these."""
    data = named("2", "0", "1", order="stored")
    assert aligned(data, ("a", "b", "c"), 3).labels.tolist() == [0, 1, 2]
    assert aligned(data, None, 5) is data


def test_asked_for_by_text_numbers_are_no_positions() -> None:
    """With the order of text asked for, folder 10 is the network's third output."""
    data = named("0", "1", "10", order="string")
    assert aligned(data, None, 11) is data


@pytest.mark.parametrize(
    ("names", "order", "warned"),
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
def test_an_assumed_order_is_said_where_it_matters(names: str, order: ClassOrder, warned: bool) -> None:
    """Without the classifier's names a warning says what was assumed, if another order is likely too and nobody chose."""
    data = named(*names.split(), order=order)
    assert codes(data, None) == (["class-order-assumed"] if warned else [])


def test_black_images_are_said_to_be_black() -> None:
    """Images cast from floats to uint8 that have no level but 0 are warned of."""
    black = LabelledImages(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "made", "test")
    assert codes(black, None) == ["black-images"]
    assert codes(LabelledImages(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"), "made", "test"), None) == []


def test_groups_stay_with_their_images() -> None:
    """A changed order of classes changes no image's place."""
    data = named("b", "a")
    assert np.array_equal(aligned(data, ("a", "b"), 2).images.numpy(), data.images.numpy())
