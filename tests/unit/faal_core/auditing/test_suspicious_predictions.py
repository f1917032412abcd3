"""Test the warnings on mixed-up labels, guessing and one answer; a merely weak network raises none."""

import numpy as np
import pytest

from faal_core.auditing.reliability import check_class_sizes, examine_predictions
from faal_core.results.class_table import ClassTable
from faal_core.results.image_outcomes import UNBROKEN, Evaluation


def build_evaluation(labels: np.ndarray, clean: np.ndarray) -> Evaluation:
    """Return an evaluation with those clean predictions, in which no image is broken."""
    zeros, count = np.zeros(len(labels)), len(labels)
    return Evaluation(labels, clean, clean, np.full(count, UNBROKEN), zeros, zeros, zeros, ("",) * count)


def examine(labels: np.ndarray, clean: np.ndarray) -> dict[str, str]:
    """Return the evidence of each warning, by its code."""
    names = tuple(f"c{i}" for i in range(labels.max() + 1))
    return {warning.code: warning.evidence for warning in examine_predictions(build_evaluation(labels, clean), names)}


def draw_predictions(classes: int, images: int, accuracy: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, `images` per class, and predictions that are right with that chance and random otherwise."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    guesses = generator.integers(0, classes, len(labels))
    return labels, np.where(generator.random(len(labels)) < accuracy, labels, guesses)


@pytest.mark.parametrize(("classes", "images"), [(2, 40), (3, 30), (10, 20), (12, 4), (43, 10), (1000, 2)])
def test_a_shifted_order_of_classes_is_noticed_and_the_right_one_is_stated(classes: int, images: int) -> None:
    """If every output means the class before it, the warning states how many images the right order makes correct."""
    labels, right = draw_predictions(classes, images, 0.9)
    evidence = examine(labels, (right + 1) % classes)
    fitting = int((labels == right).sum())
    assert f"and {fitting:,} would be" in evidence["classes-in-another-order"]
    if classes == 3:
        assert evidence["classes-in-another-order"].endswith("otherwise: c2, c0, c1")
    if classes == 43:
        assert "output 0 is c42, 1 is c0, " in evidence["classes-in-another-order"]


@pytest.mark.parametrize(("classes", "images"), [(10, 20), (43, 10), (1000, 5)])
def test_two_exchanged_classes_among_many_are_noticed(classes: int, images: int) -> None:
    """A network that exchanges two classes, and is otherwise correct, gets a warning with the right order."""
    labels = np.repeat(np.arange(classes), images)
    order = np.arange(classes)
    order[[3, 7]] = 7, 3
    evidence = examine(labels, order[labels])
    assert set(evidence) == {"classes-in-another-order"}
    names = "c0, c1, c2, c7" if classes <= 12 else "output 3 is c7, 7 is c3"
    assert names in evidence["classes-in-another-order"]


@pytest.mark.parametrize(("classes", "images"), [(2, 50), (10, 30), (43, 20), (1000, 3)])
@pytest.mark.parametrize("accuracy", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_weak_network_raises_no_warning_about_labels(classes: int, images: int, accuracy: float, seed: int) -> None:
    """Random mistakes raise no warning about the order of classes, because no order fits images that did not suggest it."""
    assert examine(*draw_predictions(classes, images, accuracy, seed)) == {}


def test_a_class_that_is_mostly_taken_for_another_is_a_mistake_and_no_order() -> None:
    """If all shirts and all coats are classified as coats, no other order makes more images correct, so there is no warning."""
    labels = np.repeat(np.arange(10), 50)
    assert examine(labels, np.where(labels == 4, 5, labels)) == {}


@pytest.mark.parametrize(("classes", "images"), [(2, 50), (10, 30), (43, 20), (1000, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_guessing_raises_its_warning_alone(classes: int, images: int, seed: int) -> None:
    """Predictions independent of the labels raise the warning about chance, and none about the order of classes."""
    assert set(examine(*draw_predictions(classes, images, 0.0, seed))) == {"clean-at-chance"}


@pytest.mark.parametrize(
    ("right", "images", "has_warning"), [(7, 8, False), (5, 8, True), (0, 8, True), (40, 80, True), (60, 80, False)]
)
def test_chance_is_judged_by_how_many_images_there_are(right: int, images: int, has_warning: bool) -> None:
    """With two classes, 5 of 8 correct may be guessed; 7 of 8 and 60 of 80 may not."""
    labels = np.arange(images) % 2
    clean = np.where(np.arange(images) < right, labels, 1 - labels)
    assert ("clean-at-chance" in examine(labels, clean)) == has_warning


@pytest.mark.parametrize(
    ("right", "images", "message"),
    [
        (14, 20, "There are too few images to tell whether the network is better than guessing."),
        (5, 8, "There are too few images to tell whether the network is better than guessing."),
        (10, 20, "Without any attack the network is no better than guessing."),
        (8, 20, "Without any attack the network is no better than guessing."),
    ],
)
def test_a_rate_above_chance_is_not_called_chance(right: int, images: int, message: str) -> None:
    """With two classes, the warning for 14 of 20 correct is about too few images, and for 10 of 20 about chance."""
    labels = np.arange(images) % 2
    clean = np.where(np.arange(images) < right, labels, 1 - labels)
    (warning,) = examine_predictions(build_evaluation(labels, clean), ("a", "b"))
    assert (warning.code, warning.message) == ("clean-at-chance", message)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_one_answer_for_all_is_noticed(classes: int) -> None:
    """A network that predicts one class for every image raises a warning with that class, unless nearly all images are of it."""
    labels = np.repeat(np.arange(classes), 20)
    evidence = examine(labels, np.full(len(labels), 1))
    assert "are classified as 'c1'; 20 belong to that class" in evidence["one-answer"]
    rare = np.concatenate([np.zeros(190, int), np.ones(10, int)])
    assert examine(rare, np.zeros(200, int)) == {}


def test_classes_of_few_images_are_named() -> None:
    """The warning names a class of two images, whose interval is wide, and not a class of fifty."""
    labels = np.array([0] * 2 + [1] * 50 + [2] * 1)
    table = ClassTable(build_evaluation(labels, labels), ("rare", "common", "single"), 0, 0.95)
    (warning,) = check_class_sizes(table.build_rows())
    assert "the intervals of 2 of 3 classes" in warning.evidence
    assert warning.evidence.endswith("rare (2), single (1)")
    assert check_class_sizes((table.build_rows()[1],)) == []
