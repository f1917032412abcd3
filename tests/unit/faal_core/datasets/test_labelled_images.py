"""The rules of labelled images, and stratified subsets."""

import time

import numpy as np
import pytest
import torch

from faal_core.datasets.labelled_images import LabelledImages, draw_stratified
from faal_core.errors import DatasetInvalid


def make_images(labels: list[int], images: torch.Tensor | None = None, classes: int = 3) -> LabelledImages:
    """Return images of ascending levels, with those labels."""
    if images is None:
        images = torch.arange(len(labels) * 4, dtype=torch.uint8).view(len(labels), 1, 2, 2)
    return LabelledImages(images, torch.tensor(labels), tuple("abc"[:classes]), "made", "test")


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.zeros(3, 2, 2), [0, 1, 2], "images are n × c × h × w"),
        (torch.zeros(3, 5, 2, 2), [0, 1, 2], "1 to 4 channels"),
        (torch.zeros(3, 1, 0, 2), [0, 1, 2], "images are n × c × h × w"),
        (torch.zeros(4, 1, 2, 2), [0, 1, 2], "4 images and 3 labels"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.int64), [0, 1, 2], "uint8 or float32, not torch.int64"),
        (torch.full((3, 1, 2, 2), 255.0), [0, 1, 2], "span 255 to 255; divide by 255"),
        (torch.full((3, 1, 2, 2), float("nan")), [0, 1, 2], "12 of 12 pixel values are NaN, the first in image 0"),
        (torch.zeros(3, 1, 2, 2), [0, 1, 3], "label 3 is not in 0…2"),
        (torch.zeros(3, 1, 2, 2), [0, -1, 2], "label -1 is not in 0…2"),
        (torch.full((3, 1, 2, 2), float("inf")), [0, 1, 2], "12 of 12 pixel values are infinite"),
        (torch.linspace(-1, 1, 12).view(3, 1, 2, 2), [0, 1, 2], r"span -1 to 1; .*\(images \+ 1\) / 2"),
        (torch.linspace(-2.4, 2.6, 12).view(3, 1, 2, 2), [0, 1, 2], "span -2.4 to 2.6; they look normalised"),
        (torch.linspace(0, 65535, 12).view(3, 1, 2, 2), [0, 1, 2], "divide by 65535"),
        (torch.linspace(0, 1.01, 12).view(3, 1, 2, 2), [0, 1, 2], "span 0 to 1.01"),
    ],
)
def test_broken_rules_are_named(images: torch.Tensor, labels: list[int], reason: str) -> None:
    """Each broken rule of images and labels raises its own error with the offending value."""
    with pytest.raises(DatasetInvalid, match=rf"made \(test\): .*{reason}"):
        make_images(labels, images)


def test_rounding_above_one_is_clipped_and_said() -> None:
    """Pixels outside [0, 1] by rounding alone are clipped, with one note in the summary; others keep their values."""
    images = torch.tensor([0, 0.25, 1.0000002, -1e-7] * 3).view(3, 1, 2, 2)
    data = make_images([0, 1, 2], images)
    assert data.images.flatten().tolist() == [0, 0.25, 1, 0] * 3
    (note,) = data.take(torch.tensor([0, 1])).summarise().preparation
    assert note.startswith("6 pixel values outside [0, 1]")
    assert make_images([0, 1, 2], torch.rand(3, 1, 2, 2)).preparation == ()


def test_class_names_tell_classes_apart() -> None:
    """Two classes with one name are refused."""
    with pytest.raises(DatasetInvalid, match="two classes have the same name"):
        LabelledImages(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "a"), "made", "test")


@pytest.mark.parametrize("name", ["", "a" * 101, "a\nb", "a\0", "\x1b[2J", "\ud800"])
def test_class_names_can_be_shown(name: str) -> None:
    """An empty class name is refused; so is one that is too long, holds control characters or cannot be encoded."""
    with pytest.raises(DatasetInvalid, match="names have 1 to 100 characters") as error:
        LabelledImages(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", name), "made", "test")
    assert error.value.message.isprintable()


def test_pixels_are_shares_of_white() -> None:
    """uint8 levels become pixels in [0, 1] by division by 255; floats stay as they are."""
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    pixels = make_images([0, 1, 2], levels).pixels(torch.tensor([1, 2]), torch.device("cpu"))
    torch.testing.assert_close(pixels, torch.tensor([0.2, 1.0]).view(2, 1, 1, 1))
    floats = torch.rand(3, 1, 2, 2)
    assert torch.equal(make_images([0, 1, 2], floats).pixels(slice(None), torch.device("cpu")), floats)


def test_digest_knows_images_labels_order_and_shape() -> None:
    """The digest is equal for the same images, and differs for other levels, labels, order or shape."""
    images = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    same = make_images([0, 1, 2], images.clone())
    others = [
        make_images([0, 1, 2], images.flip(0)),
        make_images([2, 1, 0], images),
        make_images([0, 1, 2], images.view(3, 1, 1, 4)),
        make_images([0, 1, 2], images / 255),
    ]
    assert same.sha256 == make_images([0, 1, 2], images).sha256
    assert len({same.sha256, *(other.sha256 for other in others)}) == 5


def test_stratified_rows_are_in_proportion() -> None:
    """Stratified rows are ascending and distinct, and classes are in proportion, within one image."""
    data = make_images([0] * 60 + [1] * 30 + [2] * 10)
    for count in (3, 7, 20, 33, 99, 100):
        rows = data.stratified(count, seed=5)
        assert len(rows.unique()) == count
        assert torch.equal(rows, rows.sort().values)
        counts = np.bincount(data.labels[rows].numpy(), minlength=3)
        assert (np.abs(counts - data.counts * count / 100) <= 1).all()
        assert (counts >= 1).all()


def test_a_class_without_images_is_never_drawn() -> None:
    """Stratified rows come from the classes that have images, at least one each; the empty class keeps its name and position."""
    data = make_images([0] * 6 + [2] * 3)
    assert data.classes_without_images == ("b",)
    assert np.bincount(data.labels[data.stratified(3, 0)], minlength=3).tolist() == [2, 0, 1]
    assert np.bincount(data.labels[data.stratified(2, 0)], minlength=3).tolist() == [1, 0, 1]
    assert data.take(torch.arange(6)).classes_without_images == ("b", "c")


def test_stratified_rows_follow_the_seed() -> None:
    """The same seed draws the same rows; another seed draws others."""
    data = make_images([0, 1, 2] * 30)
    assert torch.equal(data.stratified(30, 1), data.stratified(30, 1))
    assert not torch.equal(data.stratified(30, 1), data.stratified(30, 2))


@pytest.mark.parametrize("count", [2, 10])
def test_impossible_counts_are_refused(count: int) -> None:
    """Fewer rows than classes, or more rows than images, are refused."""
    with pytest.raises(DatasetInvalid, match=f"{count} images were requested; 3 to 9"):
        make_images([0, 1, 2] * 3).stratified(count, 0)


def test_taking_rows_keeps_their_order() -> None:
    """`take` returns the given rows, in that order, with their labels."""
    subset = make_images([0, 1, 2, 0]).take(torch.tensor([3, 1, 2]))
    assert subset.labels.tolist() == [0, 1, 2]
    assert subset.images[:, 0, 0, 0].tolist() == [12, 4, 8]


@pytest.mark.parametrize("count", range(33, 60, 3))
def test_rows_of_small_classes_come_from_the_largest_classes(count: int) -> None:
    """Where one image of each small class exceeds the count, the largest classes give images, the first of equals first."""
    counts = np.array([40, 1, 60, *[1] * 28, 60, 1])
    expected = np.maximum(counts * count // counts.sum(), 1)
    assert expected.sum() > count
    while expected.sum() > count:
        expected[expected.argmax()] -= 1
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    rows = labels[draw_stratified(labels, counts, count, seed=0)]
    assert torch.bincount(rows, minlength=len(counts)).tolist() == expected.tolist()


def test_thousands_of_classes_are_drawn_in_little_time() -> None:
    """Drawing is linear: 10,000 classes, one of them with most of 200,000 images, take a moment."""
    labels = torch.cat([torch.arange(10_000), torch.zeros(190_000, dtype=torch.int64)])
    counts, start = torch.bincount(labels).numpy(), time.process_time()
    assert len(draw_stratified(labels, counts, 10_010, seed=0)) == 10_010
    assert time.process_time() - start < 3  # a search through all images for each class takes ten times as long
